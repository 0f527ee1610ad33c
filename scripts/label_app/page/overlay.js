// SPDX-License-Identifier: Apache-2.0
/** The mask in colours, on a canvas of the image's size. */

import { clip } from "./mask.js";

/** Colours class indices, filled or as outlines. Only what changed is painted. */
export class Overlay {
    #context;
    #canvas;
    #colors = new Uint32Array(256);
    #little = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;
    mask = null;
    /** Width of outlines in pixels of the image; 0: filled. */
    outline = 0;

    /** @param {HTMLCanvasElement} canvas */
    constructor(canvas) {
        this.#canvas = canvas;
        this.#context = canvas.getContext("2d");
    }

    /** @param {{value: number, color: string}[]} classes colours as #rrggbb */
    setClasses(classes) {
        this.#colors.fill(this.#packed("#ff00ff"));
        this.#colors[0] = 0;
        classes.forEach(({ value, color }) => (this.#colors[value] = this.#packed(color)));
    }

    /** Show another mask; null: none. */
    setMask(mask) {
        this.mask = mask;
        this.#canvas.width = mask?.width ?? 1;
        this.#canvas.height = mask?.height ?? 1;
        if (mask) {
            this.paint(mask.rect);
        }
    }

    /** Paint what has changed in a rectangle of the mask. */
    paint(changed) {
        const rect = this.mask && clip(changed, this.mask, this.outline);
        if (!rect) {
            return;
        }
        const width = rect.x1 - rect.x0;
        const part = new ImageData(width, rect.y1 - rect.y0);
        const pixels = new Uint32Array(part.data.buffer);
        const { data, width: stride } = this.mask;
        for (let y = rect.y0, at = 0; y < rect.y1; y++) {
            for (let x = rect.x0; x < rect.x1; x++, at++) {
                const value = data[y * stride + x];
                if (value && (!this.outline || this.#onEdge(x, y, value))) {
                    pixels[at] = this.#colors[value];
                }
            }
        }
        this.#context.putImageData(part, rect.x0, rect.y0);
    }

    /** Whether another class is as near as the outline is wide, left, right, above or below. */
    #onEdge(x, y, value) {
        const { data, width, height } = this.mask;
        const at = y * width + x;
        for (let step = 1; step <= this.outline; step++) {
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

    #packed(color) {
        const rgb = parseInt(color.slice(1), 16);
        const [red, green, blue] = [rgb >> 16, (rgb >> 8) & 255, rgb & 255];
        const value = this.#little ? (255 << 24) | (blue << 16) | (green << 8) | red : (rgb << 8) | 255;
        return value >>> 0;
    }
}
