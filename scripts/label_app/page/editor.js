// SPDX-License-Identifier: Apache-2.0
/** The mask that is being corrected: strokes, undo and redo, and whether all is saved. */

import { History } from "./history.js";
import { Mask, drawLine, exchangeInPolygon, fillPolygon, union } from "./mask.js";

/** @typedef {import("./mask.js").Point} Point */
/** @typedef {import("./mask.js").Rect} Rect */

/** Events: `paint` (detail: the rectangle that changed); `step` after `load`, each finished change and each save. */
export class Editor extends EventTarget {
    /** @type {Mask|null} */
    mask = null;
    /** @type {History|null} */
    #history = null;
    /** @type {Rect|null} */
    #open = null; // the rectangle of the stroke that is being drawn
    #saved = 0; // the state of the history that is saved; -1: none is

    /**
     * Start on another mask.
     *
     * @param {Mask|null} mask is changed by drawing; null: nothing to edit
     * @param {boolean} [unsaved] the mask holds strokes already. Defaults to false
     */
    load(mask, unsaved = false) {
        this.mask = mask;
        this.#history = mask && new History(mask);
        this.#open = null;
        this.#saved = unsaved ? -1 : 0;
        this.#step();
    }

    get unsaved() {
        return this.#history !== null && this.#history.state !== this.#saved;
    }

    /** Whether the mask equals the loaded or saved one, and no stroke is being drawn. */
    get untouched() {
        return !this.unsaved && !this.#open;
    }

    get canUndo() {
        return this.#history?.canUndo ?? false;
    }

    get canRedo() {
        return this.#history?.canRedo ?? false;
    }

    /**
     * Draw a line with the brush, as part of a stroke that `finish` ends.
     *
     * @param {Point} start
     * @param {Point} end
     * @param {number} diameter
     * @param {number} value
     */
    line(start, end, diameter, value) {
        this.#change((mask) => drawLine(mask, start, end, diameter, value));
    }

    /**
     * Let the pixels of a class inside of a polygon and the others change places, instead of what was drawn since the
     * last step; `finish` makes it a step.
     *
     * @param {Point[]} corners
     * @param {number} value
     * @param {boolean} erase leave the others as they are
     */
    exchange(corners, value, erase) {
        this.cancel();
        this.#change((mask) => exchangeInPolygon(mask, corners, value, erase));
    }

    /** End the stroke, which is one step of undo. */
    finish() {
        const open = this.#open;
        this.#open = null;
        if (open && this.#history?.commit(open)) {
            this.#step();
        }
    }

    /** Cancel the stroke. */
    cancel() {
        if (this.#open) {
            this.#history?.revert(this.#open);
            this.#paint(this.#open);
            this.#open = null;
        }
    }

    /**
     * Fill a polygon, which is one step of undo.
     *
     * @param {Point[]} corners
     * @param {number} value
     */
    polygon(corners, value) {
        this.#change((mask) => fillPolygon(mask, corners, value));
        this.finish();
    }

    /**
     * Replace the values of the mask, which is one step of undo.
     *
     * @param {Mask} values of the same size
     */
    replace(values) {
        this.cancel();
        this.#change((mask) => {
            mask.data.set(values.data);
            return mask.rect;
        });
        this.finish();
    }

    /** Empty the mask, which is one step of undo. */
    clear() {
        if (this.mask) {
            this.replace(new Mask(this.mask.width, this.mask.height));
        }
    }

    undo() {
        this.cancel();
        this.#moved(this.#history?.undo() ?? null);
    }

    redo() {
        this.cancel();
        this.#moved(this.#history?.redo() ?? null);
    }

    /** The present mask, and a function to call once the server has saved it. */
    snapshot() {
        this.finish();
        const history = this.#history;
        if (!this.mask || !history) {
            throw new Error("There is no mask to save.");
        }
        const state = history.state;
        const saved = () => {
            if (history === this.#history) {
                this.#saved = state;
                this.#step();
            }
        };
        return { mask: this.mask.copy(), saved };
    }

    /** @param {(mask: Mask) => Rect|null} draw changes the mask, and returns the rectangle that changed */
    #change(draw) {
        const rect = this.mask && draw(this.mask);
        if (rect) {
            this.#open = union(this.#open, rect);
            this.#paint(rect);
        }
    }

    /** @param {Rect|null} rect */
    #moved(rect) {
        if (rect) {
            this.#paint(rect);
            this.#step();
        }
    }

    /** @param {Rect} rect */
    #paint(rect) {
        this.dispatchEvent(new CustomEvent("paint", { detail: rect }));
    }

    #step() {
        this.dispatchEvent(new Event("step"));
    }
}
