// SPDX-License-Identifier: Apache-2.0
/** The tool that grows a region to the edges around a click, or to where the pointer is dragged. */

import { context, find } from "./dom.js";
import { Flood, Terrain } from "./flood.js";
import { cancelled, messageOf, say } from "./status.js";

/** @typedef {import("./mask.js").Point} Point */

const SLICE = 40_000; // pixels by which a region grows between two frames
const CLICK = 300_000; // pixels around a click in which edges are looked for, and at most
const SHARE = 0.5; // of the image

/** Finds the edges of the open image once, and starts regions. */
export class Grower {
    #state;
    #editor;
    #loader;
    /** @type {{image: string, value: number, probability: Uint8Array|null, terrain: Terrain}|null} */
    #ready = null;
    #ticket = 0;

    /**
     * @param {import("./state.js").State} state
     * @param {import("./editor.js").Editor} editor
     * @param {import("./loader.js").Loader} loader
     */
    constructor(state, editor, loader) {
        this.#state = state;
        this.#editor = editor;
        this.#loader = loader;
    }

    /**
     * Find the edges of the open image, unless they are known.
     *
     * @param {number} value the class whose probability is asked for
     */
    async prepare(value) {
        const { id, fingerprint, size } = this.#state.open;
        if (id === null || fingerprint === null || size === null || this.#editor.mask === null) {
            return;
        }
        const ticket = ++this.#ticket;
        const probability = await this.#probability(id, value);
        const known = this.#ready;
        const same = known?.image === fingerprint && known.value === value && known.probability === probability;
        if (ticket === this.#ticket && fingerprint === this.#state.open.fingerprint && !same) {
            const canvas = find("#image", HTMLCanvasElement);
            const image = context(canvas).getImageData(0, 0, size.width, size.height);
            this.#ready = { image: fingerprint, value, probability, terrain: new Terrain(image, probability) };
        }
    }

    /**
     * Start a region at a pixel. Null: it is outside of the image, or the edges are not known yet.
     *
     * @param {Point} start
     * @param {number} value that the region gets, 0 erases
     * @param {number} of the class whose edges are followed
     * @returns {Growth|null}
     */
    start(start, value, of) {
        const { fingerprint, size } = this.#state.open;
        const ready = this.#ready?.image === fingerprint && this.#ready.value === of ? this.#ready : null;
        if (!size || start.x < 0 || start.y < 0 || start.x >= size.width || start.y >= size.height) {
            return null;
        }
        if (!ready) {
            say("One moment: the edges of this image are being found.");
            return null;
        }
        return new Growth(this.#editor, ready.terrain, start, value);
    }

    /**
     * @param {string} id
     * @param {number} value
     */
    async #probability(id, value) {
        try {
            return (await this.#loader.probability(id, value)).data;
        } catch (error) {
            if (!cancelled(error)) {
                say(`No probability, so regions follow colours alone. ${messageOf(error)}`, "error");
            }
            return null;
        }
    }
}

/** A region that is being grown; it is part of the mask once the pointer is released. */
export class Growth {
    #editor;
    #terrain;
    #flood;
    #value;
    #start;
    #target = -1; // the pixel that the region ends at; -1: the pointer was not dragged
    #frame = 0;

    /**
     * @param {import("./editor.js").Editor} editor
     * @param {Terrain} terrain
     * @param {Point} start inside of the image
     * @param {number} value
     */
    constructor(editor, terrain, start, value) {
        this.#editor = editor;
        this.#terrain = terrain;
        this.#value = value;
        this.#start = this.#index(start);
        this.#flood = new Flood(terrain, this.#start);
    }

    /**
     * Let the region end at a place, which may be outside of the image.
     *
     * @param {Point} place
     */
    to(place) {
        this.#target = this.#index(place);
        this.#advance();
    }

    /** Complete the region, which is one step of undo. */
    end() {
        cancelAnimationFrame(this.#frame);
        const { width, height } = this.#terrain;
        if (this.#target < 0) {
            this.#flood.grow(Math.min(CLICK, Math.round(SHARE * width * height)));
            this.#show(this.#flood.natural());
        } else {
            this.#flood.grow(Infinity, this.#target);
            this.#show(this.#flood.sizeAt(this.#target));
        }
        this.#editor.finish();
    }

    /** Leave the mask as it was. */
    cancel() {
        cancelAnimationFrame(this.#frame);
        this.#editor.cancel();
    }

    #advance() {
        cancelAnimationFrame(this.#frame);
        this.#flood.grow(SLICE, this.#target);
        const size = this.#flood.sizeAt(this.#target);
        this.#show(size || this.#flood.count);
        if (!size) {
            this.#frame = requestAnimationFrame(() => this.#advance());
        }
    }

    /** @param {number} size */
    #show(size) {
        this.#editor.region(this.#flood.order.subarray(0, size), this.#value);
    }

    /** @param {Point} place */
    #index({ x, y }) {
        const { width, height } = this.#terrain;
        return Math.min(Math.max(y, 0), height - 1) * width + Math.min(Math.max(x, 0), width - 1);
    }
}
