// SPDX-License-Identifier: Apache-2.0
/**
 * Masks and what draws into them: pure functions on a typed array of class indices, exact, without anti-aliasing.
 *
 * Pixel (x, y) covers [x, x + 1) x [y, y + 1) of the image's coordinates; its centre is (x + 0.5, y + 0.5).
 * Rectangles are {x0, y0, x1, y1} in pixels, x1 and y1 not included.
 */

/** @typedef {{x: number, y: number}} Point */
/** @typedef {{x0: number, y0: number, x1: number, y1: number}} Rect */

/** Class indices of an image, row by row. */
export class Mask {
    /**
     * @param {number} width
     * @param {number} height
     * @param {Uint8Array} [data] one value per pixel; all background where left out
     */
    constructor(width, height, data = new Uint8Array(width * height)) {
        if (data.length !== width * height) {
            throw new Error(`${data.length} values for a mask of ${width} x ${height} pixels`);
        }
        this.width = width;
        this.height = height;
        this.data = data;
    }

    /** @returns {Rect} the whole mask */
    get rect() {
        return { x0: 0, y0: 0, x1: this.width, y1: this.height };
    }

    /** Whether it marks nothing. */
    get empty() {
        return this.data.every((value) => value === 0);
    }

    /** @returns {Mask} */
    copy() {
        return new Mask(this.width, this.height, this.data.slice());
    }
}

/**
 * The smallest rectangle around two, either of which may be null.
 *
 * @template {Rect|null} T
 * @param {Rect|null} a
 * @param {T} b
 * @returns {Rect|T}
 */
export function union(a, b) {
    if (!a || !b) {
        return b ?? /** @type {T} */ (a);
    }
    return {
        x0: Math.min(a.x0, b.x0),
        y0: Math.min(a.y0, b.y0),
        x1: Math.max(a.x1, b.x1),
        y1: Math.max(a.y1, b.y1),
    };
}

/**
 * The part of a rectangle inside a mask, `margin` pixels wider on each side; null where nothing is left.
 *
 * @param {Rect} rect
 * @param {{width: number, height: number}} mask
 * @returns {Rect|null}
 */
export function clip(rect, mask, margin = 0) {
    const x0 = Math.max(rect.x0 - margin, 0);
    const y0 = Math.max(rect.y0 - margin, 0);
    const x1 = Math.min(rect.x1 + margin, mask.width);
    const y1 = Math.min(rect.y1 + margin, mask.height);
    return x0 < x1 && y0 < y1 ? { x0, y0, x1, y1 } : null;
}

/**
 * The values in a rectangle, row by row.
 *
 * @param {Mask} mask
 * @param {Rect} rect
 */
export function crop(mask, rect) {
    const width = rect.x1 - rect.x0;
    const values = new Uint8Array(width * (rect.y1 - rect.y0));
    for (let y = rect.y0, at = 0; y < rect.y1; y++, at += width) {
        const start = y * mask.width + rect.x0;
        values.set(mask.data.subarray(start, start + width), at);
    }
    return values;
}

/**
 * Write the values of `crop` back.
 *
 * @param {Mask} mask
 * @param {Rect} rect
 * @param {Uint8Array} values
 */
export function paste(mask, rect, values) {
    const width = rect.x1 - rect.x0;
    for (let y = rect.y0, at = 0; y < rect.y1; y++, at += width) {
        mask.data.set(values.subarray(at, at + width), y * mask.width + rect.x0);
    }
}

/**
 * The rectangle around the pixels in which two masks of one size differ, inside `rect`; null where none does.
 *
 * @param {Mask} a
 * @param {Mask} b
 * @param {Rect} rect
 * @returns {Rect|null}
 */
export function difference(a, b, rect) {
    let found = /** @type {Rect|null} */ (null);
    for (let y = rect.y0; y < rect.y1; y++) {
        const row = y * a.width;
        let first = rect.x0;
        while (first < rect.x1 && a.data[row + first] === b.data[row + first]) {
            first++;
        }
        if (first < rect.x1) {
            let last = rect.x1 - 1;
            while (a.data[row + last] === b.data[row + last]) {
                last--;
            }
            found = union(found, { x0: first, y0: y, x1: last + 1, y1: y + 1 });
        }
    }
    return found;
}

/**
 * A brush: pixels whose centres are less than diameter / 2 from the centre of the middle pixel.
 *
 * @param {number} diameter in pixels, odd
 * @returns {Int32Array} for each row from the topmost, how far the disc reaches left and right of its middle
 */
export function disc(diameter) {
    const reach = (diameter - 1) / 2;
    const halves = new Int32Array(diameter);
    for (let row = 0; row < diameter; row++) {
        const dy = row - reach;
        // dx and dy are whole: dx^2 + dy^2 < diameter^2 / 4, without rounding
        let half = Math.floor(Math.sqrt(Math.max(0, (diameter * diameter) / 4 - dy * dy)));
        while (4 * (half * half + dy * dy) >= diameter * diameter) {
            half--;
        }
        halves[row] = half;
    }
    return halves;
}

/**
 * Draw a line of discs from one pixel to another, both included.
 *
 * The discs' middles are n + 1 pixels with n = max(|dx|, |dy|), the k-th at floor(start + k (end - start) / n + 1/2).
 *
 * @param {Mask} mask changed in place
 * @param {Point} start pixel, may be outside
 * @param {Point} end
 * @param {number} diameter odd
 * @param {number} value class index, 0 erases
 * @returns {Rect|null} the rectangle in which pixels may have changed
 */
export function drawLine(mask, start, end, diameter, value) {
    const reach = (diameter - 1) / 2;
    const halves = disc(diameter);
    const rect = clip(
        {
            x0: Math.min(start.x, end.x) - reach,
            y0: Math.min(start.y, end.y) - reach,
            x1: Math.max(start.x, end.x) + reach + 1,
            y1: Math.max(start.y, end.y) + reach + 1,
        },
        mask,
    );
    if (!rect) {
        return null;
    }
    // neighbouring discs touch in every row that both have, so that a row of the line is one run of pixels
    const left = new Int32Array(rect.y1 - rect.y0).fill(mask.width);
    const right = new Int32Array(rect.y1 - rect.y0).fill(-1);
    const steps = Math.max(Math.abs(end.x - start.x), Math.abs(end.y - start.y));
    for (let step = 0; step <= steps; step++) {
        const x = steps ? Math.floor(start.x + (step * (end.x - start.x)) / steps + 0.5) : start.x;
        const y = steps ? Math.floor(start.y + (step * (end.y - start.y)) / steps + 0.5) : start.y;
        const top = y - reach;
        const first = Math.max(0, rect.y0 - top);
        const last = Math.min(diameter, rect.y1 - top);
        for (let row = first; row < last; row++) {
            const at = top + row - rect.y0;
            left[at] = Math.min(left[at], x - halves[row]);
            right[at] = Math.max(right[at], x + halves[row]);
        }
    }
    for (let row = 0; row < left.length; row++) {
        const from = Math.max(left[row], 0);
        const to = Math.min(right[row] + 1, mask.width);
        if (from < to) {
            const start0 = (rect.y0 + row) * mask.width;
            mask.data.fill(value, start0 + from, start0 + to);
        }
    }
    return rect;
}

/**
 * Fill a polygon by the even-odd rule: pixels whose centres are inside.
 *
 * Corners are whole numbers, the corners of pixels, so that no centre is level with one. A centre exactly on a slanted
 * edge belongs to the polygon on the edge's right.
 *
 * @param {Mask} mask changed in place
 * @param {Point[]} corners whole numbers, may be outside; the last is joined to the first
 * @param {number} value class index, 0 erases
 * @returns {Rect|null} the rectangle in which pixels may have changed
 */
export function fillPolygon(mask, corners, value) {
    return inPolygon(mask, corners, (from, to) => mask.data.fill(value, from, to));
}

/**
 * Inside of a polygon as of `fillPolygon`, let marked pixels and others change places.
 *
 * @param {Mask} mask changed in place
 * @param {Point[]} corners
 * @param {number} value class index: its pixels get 0, and others get it
 * @param {boolean} erase leave the others as they are
 * @returns {Rect|null} the rectangle in which pixels may have changed
 */
export function exchangeInPolygon(mask, corners, value, erase) {
    return inPolygon(mask, corners, (from, to) => {
        for (let at = from; at < to; at++) {
            if (mask.data[at] === value) {
                mask.data[at] = 0;
            } else if (!erase) {
                mask.data[at] = value;
            }
        }
    });
}

/**
 * @param {Mask} mask
 * @param {Point[]} corners
 * @param {(from: number, to: number) => void} paint called with each run of pixels inside, as indices
 */
function inPolygon(mask, corners, paint) {
    const xs = corners.map((corner) => corner.x);
    const ys = corners.map((corner) => corner.y);
    const around = { x0: Math.min(...xs), y0: Math.min(...ys), x1: Math.max(...xs), y1: Math.max(...ys) };
    const rect = clip(around, mask);
    if (!rect) {
        return null;
    }
    for (let y = rect.y0; y < rect.y1; y++) {
        const crossings = [];
        for (let i = 0, j = corners.length - 1; i < corners.length; j = i++) {
            if (ys[i] <= y !== ys[j] <= y) {
                const [low, high] = ys[i] < ys[j] ? [i, j] : [j, i];
                const dy = ys[high] - ys[low];
                // the first pixel whose centre is at or right of the edge: ceil(x - 1/2), as one fraction of integers
                const over = (2 * (y - ys[low]) + 1) * (xs[high] - xs[low]) + (2 * xs[low] - 1) * dy;
                crossings.push(Math.ceil(over / (2 * dy)));
            }
        }
        crossings.sort((a, b) => a - b);
        for (let k = 0; k < crossings.length; k += 2) {
            const from = Math.max(crossings[k], 0);
            const to = Math.min(crossings[k + 1], mask.width);
            if (from < to) {
                paint(y * mask.width + from, y * mask.width + to);
            }
        }
    }
    return rect;
}
