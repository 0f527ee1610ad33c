// SPDX-License-Identifier: Apache-2.0
/**
 * Counts the pointer events that correct predictions to a Dice of 0.95, tool by tool.
 *
 *     node strokes.js FILE WIDTH HEIGHT
 *
 * FILE holds, for each image, the predicted and the true mask, each as bytes of 0 and 1. The simulated user looks at
 * the place that is deepest inside of an error, and changes there what removes most wrong pixels by event: a dab of the
 * brush (two events: press and release); a straight drag of the brush from there (three: one move); or a drag with the
 * curve (three) between two of 36 places on the true outlines. Drags of both kinds are chosen out of about 600. Moves
 * on the way, and without a pressed button, are not counted, nor are keys that change the brush.
 */

import fs from "node:fs";
import { between, outlines } from "../../../../scripts/label_app/page/curve.js";
import { Mask, drawLine, fillPolygon } from "../../../../scripts/label_app/page/mask.js";

/** @typedef {import("../../../../scripts/label_app/page/mask.js").Point} Point */
/** @typedef {import("../../../../scripts/label_app/page/mask.js").Rect} Rect */
/** @typedef {{places: Point[], diameter: number, events: number}} Move diameter: of the brush; 0: the curve */

const GOAL = 0.95;
const PLACES = 36;
const SIZES = [1, 1.3, 1.6, 2, 2.5]; // radius of the brush by the depth of the error
const LENGTHS = [0.5, 1, 1.5, 2, 3, 4, 6, 8]; // of a drag with it
const DIRECTIONS = Array.from({ length: 16 }, (_, k) => (k * Math.PI) / 8);
const TOOLS = { dabs: [false, false], drags: [true, false], curve: [true, true] }; // drags of the brush, the curve
const [file, width, height] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const size = width * height;
const scratch = new Mask(width, height);

/** @param {Uint8Array} mask @param {Uint8Array} truth */
function dice(mask, truth) {
    let [both, all] = [0, 0];
    for (let at = 0; at < size; at++) {
        both += mask[at] & truth[at];
        all += mask[at] + truth[at];
    }
    return (2 * both) / all;
}

/**
 * The marked pixel that is farthest from those that are not, and how far it is; ways are straight or slanted.
 *
 * @param {Uint8Array} marked
 */
function deepest(marked) {
    const far = Float32Array.from(marked, (value) => (value ? Infinity : 0));
    const near = (/** @type {number} */ at, /** @type {number} */ sign) => {
        const x = at % width;
        const steps = [[sign, 0, 1], [0, sign, 1], [-1, sign, Math.SQRT2], [1, sign, Math.SQRT2]];
        for (const [dx, dy, length] of steps) {
            const other = at + dx + dy * width;
            const inside = x + dx >= 0 && x + dx < width && other >= 0 && other < size;
            far[at] = Math.min(far[at], (inside ? far[other] : 0) + length);
        }
    };
    for (let at = 0; at < size; at++) {
        marked[at] && near(at, -1);
    }
    for (let at = size - 1; at >= 0; at--) {
        marked[at] && near(at, 1);
    }
    const at = far.reduce((best, value, index) => (value > far[best] ? index : best), 0);
    return { at, depth: far[at] };
}

/**
 * The pointer events and strokes of one image.
 *
 * @param {Uint8Array} predicted
 * @param {Uint8Array} truth
 * @param {boolean[]} given
 */
function correct(predicted, truth, [drags, curve]) {
    const mask = new Mask(width, height, Uint8Array.from(predicted));
    const outline = outlines(new Mask(width, height, truth), 1).flat();
    const places = Array.from({ length: PLACES }, (_, k) => outline[Math.floor((k * outline.length) / PLACES)]);
    let [events, strokes] = [0, 0];
    while (dice(mask.data, truth) < GOAL) {
        const errors = [1, 0].map((value) => {
            const wrong = truth.map((now, at) => (now === value && mask.data[at] !== value ? 1 : 0));
            return { value, ...deepest(wrong) };
        });
        const { at, depth, value } = errors[0].depth >= errors[1].depth ? errors[0] : errors[1];
        const start = { x: at % width, y: Math.floor(at / width) };
        const drawn = outlines(mask, 1);
        /** How many pixels get right by a move, less those that get wrong; 0 if the deepest one stays wrong. */
        const change = (/** @type {Move} */ { places: [from, to], diameter }, apply = false) => {
            const corners = diameter ? [] : between(drawn, from, to);
            const rect = diameter
                ? drawLine(scratch, from, to, diameter, 1)
                : corners.length > 2 && fillPolygon(scratch, corners, 1);
            if (!rect) {
                return 0;
            }
            let sum = 0;
            const there = scratch.data[at] > 0;
            for (let y = rect.y0; y < rect.y1; y++) {
                for (let pixel = y * width + rect.x0; (there || apply) && pixel < y * width + rect.x1; pixel++) {
                    const changed = scratch.data[pixel] > 0 && (diameter === 0 || mask.data[pixel] !== value);
                    sum += changed ? (mask.data[pixel] === truth[pixel] ? -1 : 1) : 0;
                    mask.data[pixel] ^= changed && apply ? 1 : 0;
                }
                scratch.data.fill(0, y * width + rect.x0, y * width + rect.x1);
            }
            return sum;
        };
        const brushes = [...new Set(SIZES.map((times) => Math.min(2 * Math.ceil(depth * times) - 1, 201)))];
        /** @type {Move[]} */
        const moves = brushes.map((diameter) => ({ places: [start, start], diameter, events: 2 }));
        for (const direction of drags ? DIRECTIONS : []) {
            for (const length of LENGTHS.map((times) => times * depth)) {
                const [dx, dy] = [Math.cos(direction), Math.sin(direction)].map((part) => Math.round(length * part));
                const end = { x: start.x + dx, y: start.y + dy };
                moves.push(...brushes.map((diameter) => ({ places: [start, end], diameter, events: 3 })));
            }
        }
        for (let first = 0; curve && drawn.length && first < PLACES; first++) {
            for (const end of places.slice(first + 1)) {
                moves.push({ places: [places[first], end], diameter: 0, events: 3 });
            }
        }
        const gains = moves.map((move) => change(move) / move.events);
        const best = moves[gains.indexOf(gains.reduce((a, b) => Math.max(a, b)))];
        change(best, true);
        events += best.events;
        strokes++;
    }
    return { events, strokes };
}

const bytes = fs.readFileSync(file);
/** @type {Object<string, {events: number, strokes: number}>} */
const total = {};
for (let at = 0; at < bytes.length; at += 2 * size) {
    const [predicted, truth] = [0, 1].map((part) => bytes.subarray(at + part * size, at + (part + 1) * size));
    for (const [tool, given] of Object.entries(TOOLS)) {
        const { events, strokes } = correct(predicted, truth, given);
        const before = total[tool] ?? { events: 0, strokes: 0 };
        total[tool] = { events: before.events + events, strokes: before.strokes + strokes };
    }
}
console.log(JSON.stringify({ images: bytes.length / (2 * size), ...total }, null, 1));
