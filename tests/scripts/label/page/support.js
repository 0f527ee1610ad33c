// SPDX-License-Identifier: Apache-2.0
/** Masks pixel by pixel, by the definitions in the page's comments, and random numbers that are the same each time. */

/** @typedef {import("../../../../scripts/label_app/page/mask.js").Point} Point */
/** @typedef {import("../../../../scripts/label_app/page/mask.js").Mask} Mask */

/** A function of two numbers that returns a whole random number from the first up to but not the second. */
export function randomly(seed = 1) {
    let state = seed;
    return (/** @type {number} */ low, /** @type {number} */ high) => {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
        return low + Math.floor((state / 2 ** 32) * (high - low));
    };
}

/**
 * Set each pixel for which a rule holds.
 *
 * @param {Mask} mask
 * @param {(x: number, y: number) => boolean} rule
 * @param {number} value
 */
export function where(mask, rule, value) {
    for (let y = 0; y < mask.height; y++) {
        for (let x = 0; x < mask.width; x++) {
            if (rule(x, y)) {
                mask.data[y * mask.width + x] = value;
            }
        }
    }
}

/** Whether a pixel is in a disc at one of the steps of a line. */
export function onLine(/** @type {Point} */ start, /** @type {Point} */ end, /** @type {number} */ diameter) {
    const n = Math.max(Math.abs(end.x - start.x), Math.abs(end.y - start.y));
    const middles = Array.from({ length: n + 1 }, (_, k) => [
        start.x + (n && Math.floor((2 * k * (end.x - start.x) + n) / (2 * n))),
        start.y + (n && Math.floor((2 * k * (end.y - start.y) + n) / (2 * n))),
    ]);
    return (/** @type {number} */ x, /** @type {number} */ y) =>
        middles.some(([cx, cy]) => 4 * ((x - cx) ** 2 + (y - cy) ** 2) < diameter ** 2);
}

/** Whether an odd number of edges is left of a pixel's centre or on it; twice all numbers, hence exact. */
export function inPolygon(/** @type {Point[]} */ corners) {
    return (/** @type {number} */ column, /** @type {number} */ row) => {
        const [x, y] = [2 * column + 1, 2 * row + 1];
        const left = corners.filter((corner, at) => {
            const ends = [corner, corners[(at + 1) % corners.length]].map((end) => [2 * end.x, 2 * end.y]);
            const [[x0, y0], [x1, y1]] = ends.sort((a, b) => a[1] - b[1]);
            return y0 < y && y < y1 && (x - x0) * (y1 - y0) >= (y - y0) * (x1 - x0);
        });
        return left.length % 2 === 1;
    };
}
