// SPDX-License-Identifier: Apache-2.0
/** Zoom and pan: where the image is on the screen. The browser scales the canvases; nothing is drawn anew. */

const LARGEST = 64; // screen pixels for one image pixel
const MARGIN = 16; // around a fitted image

/** @typedef {import("./mask.js").Point} Point */

/** Event `change`: the image has moved, or its scale has changed. */
export class View extends EventTarget {
    #stage;
    #layers;
    #size = /** @type {{width: number, height: number}|null} */ (null); // of the image
    #box; // of the stage; measuring it at every move of the pointer would cause a layout each time
    #fitted = true;
    scale = 1; // CSS pixels for one pixel of the image
    x = 0; // of the image's top left corner in the stage, in CSS pixels
    y = 0;

    /**
     * @param {HTMLElement} stage the window on the image
     * @param {HTMLElement} layers holds the canvases, of the image's size
     */
    constructor(stage, layers) {
        super();
        this.#stage = stage;
        this.#layers = layers;
        this.#box = stage.getBoundingClientRect();
        new ResizeObserver(() => this.#resized()).observe(stage);
    }

    /**
     * Set the size of the image. The same size keeps scale and place.
     *
     * @param {number} width
     * @param {number} height
     */
    setSize(width, height) {
        const same = this.#size?.width === width && this.#size?.height === height;
        this.#size = { width, height };
        this.#layers.style.width = `${width}px`;
        this.#layers.style.height = `${height}px`;
        if (same) {
            this.#apply();
        } else {
            this.fit();
        }
    }

    /** Screen pixels for one image pixel. */
    get zoom() {
        return this.scale * devicePixelRatio;
    }

    /** Show all of the image. */
    fit() {
        if (!this.#size) {
            return;
        }
        const { clientWidth, clientHeight } = this.#stage;
        const { width, height } = this.#size;
        const fitting = Math.min((clientWidth - 2 * MARGIN) / width, (clientHeight - 2 * MARGIN) / height);
        this.scale = Math.max(fitting, 0.01);
        this.x = (clientWidth - width * this.scale) / 2;
        this.y = (clientHeight - height * this.scale) / 2;
        this.#fitted = true;
        this.#apply();
    }

    /** Show one image pixel on one screen pixel, around the middle of the stage. */
    actualSize() {
        this.zoomBy(1 / this.zoom);
    }

    /**
     * @param {number} factor above 1: closer
     * @param {Point} [client] the place that stays, as in mouse events. Defaults to the middle
     */
    zoomBy(factor, client) {
        const box = this.#box;
        const x = client ? client.x - box.left : box.width / 2;
        const y = client ? client.y - box.top : box.height / 2;
        const scale = Math.min(Math.max(this.scale * factor, 0.02), LARGEST / devicePixelRatio);
        this.x = x - ((x - this.x) * scale) / this.scale;
        this.y = y - ((y - this.y) * scale) / this.scale;
        this.scale = scale;
        this.#fitted = false;
        this.#apply();
    }

    /**
     * Move the image by CSS pixels.
     *
     * @param {number} dx
     * @param {number} dy
     */
    panBy(dx, dy) {
        this.x += dx;
        this.y += dy;
        this.#fitted = false;
        this.#apply();
    }

    /**
     * A place of the screen in the image's coordinates: pixel (x, y) covers [x, x + 1) x [y, y + 1).
     *
     * @param {Point} client
     */
    toImage(client) {
        const box = this.#box;
        return { x: (client.x - box.left - this.x) / this.scale, y: (client.y - box.top - this.y) / this.scale };
    }

    /**
     * A place of the image in CSS pixels of the stage.
     *
     * @param {Point} place
     */
    toStage({ x, y }) {
        return { x: x * this.scale + this.x, y: y * this.scale + this.y };
    }

    #resized() {
        this.#box = this.#stage.getBoundingClientRect();
        if (this.#fitted) {
            this.fit();
        }
    }

    #apply() {
        if (this.#size) {
            // at least a corner of the image remains visible; whole pixels keep it sharp
            const { clientWidth, clientHeight } = this.#stage;
            const keep = 48;
            const { width, height } = this.#size;
            this.x = Math.round(Math.min(Math.max(this.x, keep - width * this.scale), clientWidth - keep));
            this.y = Math.round(Math.min(Math.max(this.y, keep - height * this.scale), clientHeight - keep));
        }
        this.#layers.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
        this.#layers.classList.toggle("pixelated", this.zoom >= 2);
        this.dispatchEvent(new Event("change"));
    }
}
