// SPDX-License-Identifier: Apache-2.0
/** Undo and redo for a mask. A step stores the rectangle that changed. */

/** @typedef {import("./mask.js").Rect} Rect */
/** @typedef {{rect: Rect, values: Uint8Array, state: number}} Step values: what undo or redo puts into the rectangle */

import { crop, difference, paste } from "./mask.js";

/** Steps of one mask. Memory is bounded: the oldest steps are dropped first. */
export class History {
    #shadow; // the mask as of the last step
    /** @type {Step[]} */
    #done = [];
    /** @type {Step[]} */
    #undone = [];
    #bytes = 0;
    #count = 0;

    /**
     * @param {import("./mask.js").Mask} mask changed in place by `undo` and `redo`
     * @param {number} [limit] bytes of all steps. Defaults to 64 MiB
     */
    constructor(mask, limit = 64 * 2 ** 20) {
        this.mask = mask;
        this.limit = limit;
        this.#shadow = mask.copy();
    }

    get canUndo() {
        return this.#done.length > 0;
    }

    get canRedo() {
        return this.#undone.length > 0;
    }

    /** A number that names the present state: equal after undo and redo. */
    get state() {
        return this.#done.at(-1)?.state ?? this.start;
    }

    /** The number of the oldest state that undo reaches. */
    start = 0;

    /**
     * Store the changes inside a rectangle since the last step as a new step.
     *
     * @param {Rect} rect
     * @returns {boolean} whether anything has changed
     */
    commit(rect) {
        const changed = difference(this.mask, this.#shadow, rect);
        if (!changed) {
            return false;
        }
        this.#undone.forEach((step) => (this.#bytes -= step.values.length));
        this.#undone = [];
        const step = { rect: changed, values: crop(this.#shadow, changed), state: ++this.#count };
        paste(this.#shadow, changed, crop(this.mask, changed));
        this.#done.push(step);
        this.#bytes += step.values.length;
        while (this.#bytes > this.limit && this.#done.length > 1) {
            const [oldest] = this.#done.splice(0, 1);
            this.#bytes -= oldest.values.length;
            this.start = oldest.state;
        }
        return true;
    }

    /**
     * Revert the changes inside a rectangle since the last step.
     *
     * @param {Rect} rect
     */
    revert(rect) {
        paste(this.mask, rect, crop(this.#shadow, rect));
    }

    /** @returns {Rect|null} the rectangle that changed */
    undo() {
        return this.#move(this.#done, this.#undone);
    }

    /** @returns {Rect|null} the rectangle that changed */
    redo() {
        return this.#move(this.#undone, this.#done);
    }

    /** @param {Step[]} from @param {Step[]} to */
    #move(from, to) {
        const step = from.pop();
        if (!step) {
            return null;
        }
        // undo and redo exchange the values of the step with those of the mask
        const values = crop(this.mask, step.rect);
        paste(this.mask, step.rect, step.values);
        paste(this.#shadow, step.rect, step.values);
        to.push({ ...step, values });
        return step.rect;
    }
}
