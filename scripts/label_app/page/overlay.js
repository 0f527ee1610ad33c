// SPDX-License-Identifier: Apache-2.0
/** The mask in colours, on a canvas of the image's size. */

import { context } from "./dom.js";
import { clip } from "./mask.js";

/** Colours class indices, filled or as outlines. Only what changed is painted. */
export class Overlay {
    /** @type {CanvasRenderingContext2D} */
    #context;
    #canvas;
    #colors = new Uint32Array(256);
    #little = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;
    /** @type {import("./mask.js").Mask|null} */
    mask = null;
    /** Width of outlines in pixels of the image; 0: filled. */
    outline = 0;

    /** @param {HTMLCanvasElement} canvas */
    constructor(canvas) {
        this.#canvas = canvas;
        this.#context = context(canvas);
    }

    /** @param {{value: number, color: string}[]} classes colours as #rrggbb */
    setClasses(classes) {
        this.#colors.fill(this.#packed("#ff00ff"));
        this.#colors[0] = 0;
        classes.forEach(({ value, color }) => (this.#colors[value] = this.#packed(color)));
    }

    /**
     * Show another mask; null: none.
     *
     * @param {import("./mask.js").Mask|null} mask
     */
    setMask(mask) {
        this.mask = mask;
        this.#canvas.width = mask?.width ?? 1;
        this.#canvas.height = mask?.height ?? 1;
        if (mask) {
            this.paint(mask.rect);
        }
    }

    /**
     * Paint what has changed in a rectangle of the mask.
     *
     * @param {import("./mask.js").Rect} changed
     */
    paint(changed) {
        const { mask } = this;
        const rect = mask && clip(changed, mask, this.outline);
        if (!rect) {
            return;
        }
        const width = rect.x1 - rect.x0;
        const part = new ImageData(width, rect.y1 - rect.y0);
        const pixels = new Uint32Array(part.data.buffer);
        const { data, width: stride } = mask;
        for (let y = rect.y0, at = 0; y < rect.y1; y++) {
            for (let x = rect.x0; x < rect.x1; x++, at++) {
                const value = data[y * stride + x];
                if (value && (!this.outline || onEdge(mask, x, y, value, this.outline))) {
                    pixels[at] = this.#colors[value];
                }
            }
        }
        this.#context.putImageData(part, rect.x0, rect.y0);
    }

    /** @param {string} color */
    #packed(color) {
        const rgb = parseInt(color.slice(1), 16);
        const [red, green, blue] = [rgb >> 16, (rgb >> 8) & 255, rgb & 255];
        const value = this.#little ? (255 << 24) | (blue << 16) | (green << 8) | red : (rgb << 8) | 255;
        return value >>> 0;
    }
}

/**
 * Whether another class is as near as an outline is wide, left, right, above or below.
 *
 * @param {import("./mask.js").Mask} mask
 * @param {number} x
 * @param {number} y
 * @param {number} value
 * @param {number} outline
 */
function onEdge({ data, width, height }, x, y, value, outline) {
    const at = y * width + x;
    for (let step = 1; step <= outline; step++) {
        if (
            (x >= step && data[at - step] !== value) ||
            (x + step < width && data[at + step] !== value) ||
            (y >= step && data[at - step * width] !== value) ||
            (y + step < height && data[at + step * width] !== value)
        ) {
            return true;
        }
    }
    return false;
}
