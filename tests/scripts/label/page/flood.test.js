// SPDX-License-Identifier: Apache-2.0
/** Regions that follow edges, against shortest ways that are found step by step, and discs whose edge is known. */

import assert from "node:assert/strict";
import test from "node:test";
import { Editor } from "../../../../scripts/label_app/page/editor.js";
import { Flood, Terrain } from "../../../../scripts/label_app/page/flood.js";
import { Growth } from "../../../../scripts/label_app/page/growth.js";
import { Mask } from "../../../../scripts/label_app/page/mask.js";
import { randomly } from "./support.js";

globalThis.requestAnimationFrame = () => 0; // nothing grows on between two events
globalThis.cancelAnimationFrame = () => {};

/** An image of one channel: the same value in red, green and blue. */
function grey(/** @type {number} */ width, /** @type {number} */ height, /** @type {(x: number, y: number) => number} */ of) {
    const data = new Uint8Array(4 * width * height);
    data.forEach((_, at) => (data[at] = of((at >> 2) % width, Math.floor((at >> 2) / width))));
    return { width, height, data };
}

test("pixels come in the order of their shortest ways", () => {
    const random = randomly(5);
    const [width, height] = [13, 9];
    const terrain = new Terrain(grey(width, height, () => random(0, 40)), null);
    const start = 3 * width + 7;
    const flood = new Flood(terrain, start);
    assert.equal(flood.grow(Infinity), false);
    assert.deepEqual([...flood.order].sort((a, b) => a - b), [...flood.order.keys()]); // each pixel once

    const expected = new Array(width * height).fill(Infinity);
    expected[start] = 0;
    const pixels = [...expected.keys()];
    const near = (/** @type {number} */ a, /** @type {number} */ b) => {
        const [dx, dy] = [Math.abs((a % width) - (b % width)), Math.abs(Math.floor(a / width) - Math.floor(b / width))];
        return a !== b && dx <= 1 && dy <= 1;
    };
    for (let round = 0; round < pixels.length; round++) {
        for (const a of pixels) {
            for (const b of pixels.filter((pixel) => near(a, pixel))) {
                const slanted = a % width !== b % width && Math.floor(a / width) !== Math.floor(b / width);
                expected[b] = Math.min(expected[b], expected[a] + terrain.cost(a, b, slanted));
            }
        }
    }
    const found = [...flood.order].map((pixel) => expected[pixel]);
    assert.deepEqual(found, found.toSorted((a, b) => a - b));
    assert.equal(flood.sizeAt(flood.order[20]), 21);
});

test("the cost of a step is that of length, colour and probability, and is bounded", () => {
    const flat = new Terrain(grey(4, 4, () => 90), null);
    assert.deepEqual([flat.cost(5, 6, false), flat.cost(5, 10, true)], [5, 7]);
    // columns of 0 0 3 3: means over three columns are 0 1 2 3
    assert.equal(new Terrain(grey(4, 4, (x) => (x < 2 ? 0 : 3)), null).cost(5, 6, false), 5 + 10);
    const probability = Uint8Array.from({ length: 16 }, (_, at) => (at === 6 ? 2 : at === 10 ? 255 : 0));
    const terrain = new Terrain(grey(4, 4, () => 90), probability);
    assert.equal(terrain.cost(5, 6, false), 5 + 120);
    assert.equal(terrain.cost(5, 10, true), 1023);
});

const disc = (/** @type {number} */ x, /** @type {number} */ y) => Math.hypot(x - 40, y - 30) < 15;

for (const [name, terrain] of /** @type {[string, Terrain][]} */ ([
    ["colour", new Terrain(grey(90, 60, (x, y) => (disc(x, y) ? 120 : 80)), null)],
    ["probability", new Terrain(grey(90, 60, () => 90), Uint8Array.from({ length: 5400 }, (_, at) =>
        disc(at % 90, Math.floor(at / 90)) ? 255 : 0))],
])) {
    test(`a click marks what an edge of ${name} surrounds, and a drag ends where the pointer is`, () => {
        const editor = new Editor();
        editor.load(new Mask(90, 60));
        const growth = new Growth(editor, terrain, { x: 45, y: 33 }, 1);
        growth.end();
        const marked = (/** @type {(x: number, y: number) => boolean} */ rule) =>
            editor.mask?.data.reduce((sum, value, at) => sum + (value && rule(at % 90, Math.floor(at / 90)) ? 1 : 0), 0) ?? 0;
        const area = Array.from({ length: 5400 }, (_, at) => disc(at % 90, Math.floor(at / 90))).filter(Boolean).length;
        const dice = (2 * marked(disc)) / (marked(() => true) + area);
        assert(dice > 0.93, `Dice ${dice}`); // colours are means of three pixels, so their edge is wide
        editor.undo();
        assert(editor.mask?.empty);

        const drag = new Growth(editor, terrain, { x: 40, y: 30 }, 1);
        drag.to({ x: 200, y: -5 }); // outside: the image's nearest pixel
        assert.equal(marked(() => true) > 5000, true);
        drag.to({ x: 48, y: 30 });
        const small = marked(() => true);
        assert(small > 150 && small < 300, `${small} pixels`); // pi * 8 * 8 is 201
        assert.equal(marked(disc), small);
        drag.end();
        assert(editor.canUndo);

        const erase = new Growth(editor, terrain, { x: 40, y: 30 }, 0);
        erase.to({ x: 44, y: 30 });
        assert(marked(() => true) < small);
        erase.cancel();
        assert.equal(marked(() => true), small);
    });
}
