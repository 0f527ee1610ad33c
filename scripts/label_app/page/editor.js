// SPDX-License-Identifier: Apache-2.0
/** The mask that is being corrected: strokes, undo and redo, and whether all is saved. */

import { History } from "./history.js";
import { drawLine, fillPolygon, union } from "./mask.js";

/** Events: `paint` (detail: the rectangle that changed); `step` after `load`, each finished change and each save. */
export class Editor extends EventTarget {
    mask = null;
    #history = null;
    #open = null; // the rectangle of the stroke that is being drawn
    #saved = 0; // the state of the history that is saved; -1: none is

    /**
     * Start on another mask.
     *
     * @param {import("./mask.js").Mask|null} mask is changed by drawing; null: nothing to edit
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

    /** Draw a line with the brush, as part of a stroke that `finish` ends. */
    line(start, end, diameter, value) {
        this.#change(drawLine(this.mask, start, end, diameter, value));
    }

    /** End the stroke, which is one step of undo. */
    finish() {
        if (this.#open && this.#history.commit(this.#open)) {
            this.#step();
        }
        this.#open = null;
    }

    /** Cancel the stroke. */
    cancel() {
        if (this.#open) {
            this.#history.revert(this.#open);
            this.#paint(this.#open);
            this.#open = null;
        }
    }

    /** Fill a polygon, which is one step of undo. */
    polygon(corners, value) {
        this.#change(fillPolygon(this.mask, corners, value));
        this.finish();
    }

    /** Replace the values of the mask, which is one step of undo. */
    replace(mask) {
        this.cancel();
        this.mask.data.set(mask.data);
        this.#change(this.mask.rect);
        this.finish();
    }

    undo() {
        this.cancel();
        this.#moved(this.#history?.undo());
    }

    redo() {
        this.cancel();
        this.#moved(this.#history?.redo());
    }

    /** The present mask, and a function to call once the server has saved it. */
    snapshot() {
        this.finish();
        const history = this.#history;
        const state = history.state;
        const saved = () => {
            if (history === this.#history) {
                this.#saved = state;
                this.#step();
            }
        };
        return { mask: this.mask.copy(), saved };
    }

    #change(rect) {
        if (rect) {
            this.#open = union(this.#open, rect);
            this.#paint(rect);
        }
    }

    #moved(rect) {
        if (rect) {
            this.#paint(rect);
            this.#step();
        }
    }

    #paint(rect) {
        this.dispatchEvent(new CustomEvent("paint", { detail: rect }));
    }

    #step() {
        this.dispatchEvent(new Event("step"));
    }
}
