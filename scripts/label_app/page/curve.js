// SPDX-License-Identifier: Apache-2.0
/** The tool that corrects a part of an outline: a smooth curve between two places replaces it. */

/** @typedef {import("./mask.js").Mask} Mask */
/** @typedef {import("./mask.js").Point} Point */

const HANDLE = 0.36; // length of the curve's handles, for ends that are 1 apart
const REACH = 20; // steps along an outline that tell its direction; of short outlines an eighth
const STEP = 3; // pixels between the corners of the curve
// right, down, left, up: a step along an outline, and from its end to the next pixels on the right and left hand
const STEPS = [
    { ahead: [1, 0], right: [0, 0], left: [0, -1] },
    { ahead: [0, 1], right: [-1, 0], left: [0, 0] },
    { ahead: [-1, 0], right: [-1, -1], left: [-1, 0] },
    { ahead: [0, -1], right: [0, -1], left: [-1, -1] },
];

/**
 * The outlines of a class, those of holes too: corners of pixels, one step apart, with the class on the right hand.
 *
 * Regions that touch at a corner alone have outlines of their own.
 *
 * @param {Mask} mask
 * @param {number} value
 * @returns {Point[][]}
 */
export function outlines({ width, height, data }, value) {
    const marked = (/** @type {number} */ x, /** @type {number} */ y) =>
        x >= 0 && y >= 0 && x < width && y < height && data[y * width + x] === value;
    const seen = new Uint8Array(width * height); // pixels whose upper side is in an outline
    const found = [];
    for (let at = 0; at < data.length; at++) {
        if (data[at] !== value || seen[at] || data[at - width] === value) {
            continue;
        }
        const outline = [];
        const start = { x: at % width, y: Math.floor(at / width) };
        let [{ x, y }, side] = [start, 0];
        do {
            outline.push({ x, y });
            if (side === 0) {
                seen[y * width + x] = 1;
            }
            const { ahead, right, left } = STEPS[side];
            x += ahead[0];
            y += ahead[1];
            if (!marked(x + right[0], y + right[1])) {
                side = (side + 1) % 4;
            } else if (marked(x + left[0], y + left[1])) {
                side = (side + 3) % 4;
            }
        } while (x !== start.x || y !== start.y || side !== 0);
        found.push(outline);
    }
    return found;
}

/**
 * Let a curve from one place to another replace the part of an outline between them: of the nearest outline, and of its
 * two parts the one where less changes.
 *
 * @param {Point[][]} found by `outlines`
 * @param {Point} start whole numbers
 * @param {Point} end
 * @returns {Point[]} the corners of a polygon, inside of which marked pixels and others change places; may be empty
 */
export function between(found, start, end) {
    const [nearest] = found
        .map((outline) => ({ outline, from: nearestTo(outline, start), to: nearestTo(outline, end) }))
        .sort((a, b) => a.from.distance + a.to.distance - b.from.distance - b.to.distance);
    if (!nearest || nearest.from.at === nearest.to.at) {
        return [];
    }
    const { outline, from, to } = nearest;
    const [one, other] = [1, -1].map((way) => {
        const replaced = way > 0 ? part(outline, to.at, from.at) : part(outline, from.at, to.at).reverse();
        return [...curve(outline, from.at, to.at, way, start, end), ...replaced];
    });
    return Math.abs(area(one)) <= Math.abs(area(other)) ? one : other;
}

/** @param {Point[]} outline @param {Point} place */
function nearestTo(outline, { x, y }) {
    let [at, nearest] = [0, Infinity];
    for (let index = 0; index < outline.length; index++) {
        const squared = (outline[index].x - x) ** 2 + (outline[index].y - y) ** 2;
        if (squared < nearest) {
            [at, nearest] = [index, squared];
        }
    }
    return { at, distance: Math.sqrt(nearest) };
}

/** The corners from one to another, clockwise, both included. */
function part(/** @type {Point[]} */ outline, /** @type {number} */ from, /** @type {number} */ to) {
    return from <= to ? outline.slice(from, to + 1) : [...outline.slice(from), ...outline.slice(0, to + 1)];
}

/** Twice the area, positive or negative. */
function area(/** @type {Point[]} */ corners) {
    let [sum, last] = [0, corners[corners.length - 1]];
    for (const corner of corners) {
        sum += last.x * corner.y - corner.x * last.y;
        last = corner;
    }
    return sum;
}

/**
 * A cubic Bezier curve that leaves and reaches its ends in the directions of the outline that stays.
 *
 * @param {Point[]} outline
 * @param {number} from index of the corner where the part that stays ends
 * @param {number} to and where it goes on
 * @param {number} way 1: the part that stays lies behind `from`; -1: before it
 * @param {Point} start
 * @param {Point} end
 */
function curve(outline, from, to, way, start, end) {
    const reach = Math.min(REACH, outline.length >> 3);
    const length = Math.hypot(end.x - start.x, end.y - start.y);
    const handle = (/** @type {Point} */ place, /** @type {number} */ at, /** @type {number} */ sign) => {
        const corner = outline[at];
        const other = outline[(at + sign * reach + outline.length) % outline.length];
        const [dx, dy] = [corner.x - other.x, corner.y - other.y];
        const factor = (HANDLE * length) / (Math.hypot(dx, dy) || 1);
        return { x: place.x + dx * factor, y: place.y + dy * factor };
    };
    const points = [start, handle(start, from, way), handle(end, to, -way), end];
    const count = Math.max(4, Math.round(length / STEP));
    return Array.from({ length: count + 1 }, (_, index) => {
        const t = index / count;
        const weights = [(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t ** 3];
        const mean = (/** @type {"x"|"y"} */ axis) =>
            Math.round(points.reduce((sum, point, k) => sum + weights[k] * point[axis], 0));
        return { x: mean("x"), y: mean("y") };
    });
}
