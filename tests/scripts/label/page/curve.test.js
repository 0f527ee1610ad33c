// SPDX-License-Identifier: Apache-2.0
/** Outlines, and parts of them that a curve replaces, against values by hand. */

import assert from "node:assert/strict";
import test from "node:test";
import { between, outlines } from "../../../../scripts/label_app/page/curve.js";
import { Editor } from "../../../../scripts/label_app/page/editor.js";
import { Mask, fillPolygon } from "../../../../scripts/label_app/page/mask.js";
import { where } from "./support.js";

const disc = (/** @type {number} */ x, /** @type {number} */ y) => Math.hypot(x - 49.5, y - 39.5) < 30;

/** An editor on a mask of 100 x 80 pixels. */
function editorOf(/** @type {(x: number, y: number) => boolean} */ rule) {
    const mask = new Mask(100, 80);
    where(mask, rule, 2);
    const editor = new Editor();
    editor.load(mask);
    return { editor, mask };
}

const wrong = (/** @type {Mask} */ { data }, /** @type {typeof disc} */ rule) =>
    data.reduce((sum, value, at) => sum + (value > 0 === rule(at % 100, Math.floor(at / 100)) ? 0 : 1), 0);

test("outlines go around a class clockwise, and around holes the other way; corners do not join", () => {
    const mask = new Mask(4, 3, Uint8Array.from([1, 1, 0, 0, 1, 1, 2, 0, 0, 0, 1, 0]));
    const at = (/** @type {number[][]} */ corners) => corners.map(([x, y]) => ({ x, y }));
    const square = at([[0, 0], [1, 0], [2, 0], [2, 1], [2, 2], [1, 2], [0, 2], [0, 1]]);
    assert.deepEqual(outlines(mask, 1), [square, at([[2, 2], [3, 2], [3, 3], [2, 3]])]);
    assert.deepEqual(outlines(mask, 3), []);

    const ring = new Mask(7, 6);
    where(ring, (x, y) => x > 0 && x < 6 && y > 0 && (x !== 3 || y !== 3), 1);
    const [outer, hole] = outlines(ring, 1);
    assert.deepEqual([outer.length, hole], [20, at([[3, 4], [4, 4], [4, 3], [3, 3]])]);
    const filled = new Mask(7, 6);
    fillPolygon(filled, outer, 1);
    fillPolygon(filled, hole, 0);
    assert.deepEqual(filled, ring);
});

for (const [name, rule] of /** @type {[string, typeof disc][]} */ ([
    ["a piece that is missing", (x, y) => disc(x, y) && x < 70],
    ["a piece too much", (x, y) => disc(x, y) || (x > 70 && Math.abs(y - 39.5) < 18 && x < 95)],
])) {
    test(`a disc is completed by one curve: ${name}`, () => {
        const { editor, mask } = editorOf(rule);
        const before = mask.copy();
        // on the circle, above and below the piece
        const [start, end] = [{ x: 68, y: 16 }, { x: 68, y: 64 }];
        const errors = wrong(mask, disc);
        for (const [from, to] of [[start, end], [end, start]]) {
            editor.exchange(between(outlines(before, 2), from, to), 2, false);
            const left = wrong(mask, disc);
            assert(left < errors / 6 && left < 100, `${left} of ${errors}`);
        }
        editor.finish();
        assert.deepEqual(new Set(mask.data), new Set([0, 2]));
        editor.undo();
        assert.deepEqual(mask.data, before.data);
        // with the right button nothing is added
        editor.exchange(between(outlines(mask, 2), start, end), 2, true);
        assert(mask.data.every((value, at) => value === 0 || before.data[at] === 2));
        editor.cancel();
        assert.deepEqual(mask.data, before.data);
    });
}

test("of several outlines the nearest one changes, and without a way nothing does", () => {
    const square = (/** @type {number} */ x, /** @type {number} */ y) => x >= 5 && x < 65 && y >= 10 && y < 70;
    const { editor, mask } = editorOf((x, y) => square(x, y) || (x >= 75 && x < 95 && y < 20));
    // straight on between two corners of pixels in one side: the curve is that side
    const before = mask.copy();
    editor.exchange(between(outlines(mask, 2), { x: 30, y: 10 }, { x: 39, y: 10 }), 2, false);
    assert.deepEqual(mask.data, before.data);
    // 2 pixels above the side, 9 long, at the left square alone
    editor.exchange(between(outlines(mask, 2), { x: 30, y: 8 }, { x: 39, y: 8 }), 2, false);
    assert.equal(mask.data.reduce((sum, value, at) => sum + (value !== before.data[at] ? 1 : 0), 0), 18);
    assert(mask.data.subarray(800, 1000).some((value) => value === 2));
    assert.deepEqual(between(outlines(before, 2), { x: 30, y: 8 }, { x: 30, y: 8 }), []);
    assert.deepEqual(between([], { x: 1, y: 1 }, { x: 5, y: 5 }), []);
});

test("a move takes a few milliseconds at 1920 x 1080", () => {
    const mask = new Mask(1920, 1080);
    where(mask, (x, y) => Math.hypot((x - 960) / 1.6, y - 540) < 450 + 20 * Math.sin(x / 9), 1);
    const editor = new Editor();
    editor.load(mask);
    const started = performance.now();
    const found = outlines(mask, 1);
    const pressed = performance.now();
    for (let index = 0; index < 20; index++) {
        editor.exchange(between(found, { x: 300, y: 540 }, { x: 960 + 30 * index, y: 100 }), 1, false);
    }
    const [press, move] = [pressed - started, (performance.now() - pressed) / 20].map((ms) => ms.toFixed(1));
    console.log(`# curve, ${found[0].length} corners: press ${press} ms, move ${move} ms`);
    assert(editor.mask === mask && !editor.untouched);
});
