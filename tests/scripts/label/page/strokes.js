// SPDX-License-Identifier: Apache-2.0
/**
 * Counts the pointer events that correct predictions to a Dice of 0.95, with the brush alone and with the tool "grow".
 *
 *     node strokes.js FILE WIDTH HEIGHT
 *
 * FILE holds, for each image, its pixels in RGB, the probabilities and the true mask, each as bytes. The simulated user
 * looks at the place that is deepest inside of an error, and does there what removes most wrong pixels by event: a dab
 * of the brush, in the best of five sizes (two events: press and release); a click with "grow" (two events); or a drag
 * with it to the best place (three events).
 */

import fs from "node:fs";
import { Flood, Terrain } from "../../../../scripts/label_app/page/flood.js";

const GOAL = 0.95;
const SIZES = [1, 1.3, 1.6, 2, 2.5]; // radius of the brush by the depth of the error
const [file, width, height] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const size = width * height;

/** @typedef {{pixels: ArrayLike<number>, gain: number, events: number}} Move */

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

/** @param {number} middle @param {number} radius */
function disc(middle, radius) {
    const [cx, cy] = [middle % width, Math.floor(middle / width)];
    const found = [];
    for (let y = Math.max(Math.ceil(cy - radius), 0); y <= Math.min(cy + radius, height - 1); y++) {
        for (let x = Math.max(Math.ceil(cx - radius), 0); x <= Math.min(cx + radius, width - 1); x++) {
            if ((x - cx) ** 2 + (y - cy) ** 2 < radius ** 2) {
                found.push(y * width + x);
            }
        }
    }
    return found;
}

/**
 * The pointer events and strokes of one image.
 *
 * @param {Uint8Array} truth
 * @param {Uint8Array} probability
 * @param {Terrain|null} terrain null: the brush alone
 */
function correct(truth, probability, terrain) {
    const mask = probability.map((value) => (value >= 128 ? 1 : 0));
    let [events, strokes] = [0, 0];
    while (dice(mask, truth) < GOAL) {
        const errors = [1, 0].map((value) => {
            const wrong = truth.map((now, at) => (now === value && mask[at] !== value ? 1 : 0));
            return { value, ...deepest(wrong) };
        });
        const { at: start, depth, value } = errors[0].depth >= errors[1].depth ? errors[0] : errors[1];
        const gain = (/** @type {number} */ at) => (mask[at] === value ? 0 : truth[at] === value ? 1 : -1);
        /** @type {(pixels: ArrayLike<number>, events: number) => Move} */
        const move = (pixels, count) => {
            let sum = 0;
            for (let index = 0; index < pixels.length; index++) {
                sum += gain(pixels[index]);
            }
            return { pixels, gain: sum, events: count };
        };
        const moves = SIZES.map((times) => move(disc(start, depth * times), 2));
        if (terrain) {
            const flood = new Flood(terrain, start);
            flood.grow(size / 2);
            moves.push(move(flood.order.subarray(0, flood.natural()), 2));
            let [sum, most, best] = [0, 0, 0];
            for (let count = 1; count <= flood.count; count++) {
                sum += gain(flood.order[count - 1]);
                [most, best] = sum > most ? [sum, count] : [most, best];
            }
            moves.push({ pixels: flood.order.subarray(0, best), gain: most, events: 3 });
        }
        const done = moves.reduce((a, b) => (b.gain / b.events > a.gain / a.events ? b : a));
        Array.prototype.forEach.call(done.pixels, (at) => (mask[at] = value));
        events += done.events;
        strokes++;
    }
    return { events, strokes };
}

const bytes = fs.readFileSync(file);
const total = { images: 0, brush: { events: 0, strokes: 0 }, grow: { events: 0, strokes: 0 } };
for (let at = 0; at < bytes.length; at += 5 * size) {
    const [probability, truth] = [3, 4].map((part) => bytes.subarray(at + part * size, at + (part + 1) * size));
    const data = new Uint8Array(4 * size);
    data.forEach((_, index) => (data[index] = index % 4 < 3 ? bytes[at + 3 * (index >> 2) + (index % 4)] : 255));
    const terrain = new Terrain({ width, height, data }, probability);
    for (const [name, given] of /** @type {["brush"|"grow", Terrain|null][]} */ ([["brush", null], ["grow", terrain]])) {
        const { events, strokes } = correct(truth, probability, given);
        total[name].events += events;
        total[name].strokes += strokes;
    }
    total.images++;
}
console.log(JSON.stringify(total));
