// SPDX-License-Identifier: Apache-2.0
/** Drawing, undo, and what is saved, against values worked out pixel by pixel. */

import assert from "node:assert/strict";
import test from "node:test";
import { Editor } from "../../../../scripts/label_app/page/editor.js";
import { History } from "../../../../scripts/label_app/page/history.js";
import { Mask, difference, drawLine, fillPolygon } from "../../../../scripts/label_app/page/mask.js";
import { inPolygon, onLine, randomly, where } from "./support.js";

test("random lines and polygons, also partly outside, equal their definition", () => {
    const random = randomly();
    const [drawn, expected] = [new Mask(53, 41), new Mask(53, 41)];
    for (let index = 0; index < 60; index++) {
        const value = index % 4;
        const points = Array.from({ length: random(3, 8) }, () => ({ x: random(-12, 60), y: random(-12, 60) }));
        const before = drawn.copy();
        let rect;
        if (index % 2) {
            rect = fillPolygon(drawn, points, value);
            where(expected, inPolygon(points), value);
        } else {
            const diameter = 2 * random(0, 9) + 1;
            rect = drawLine(drawn, points[0], points[1], diameter, value);
            where(expected, onLine(points[0], points[1], diameter), value);
        }
        assert.deepEqual(drawn.data, expected.data, `shape ${index}`);
        // what is painted anew covers all that has changed
        assert.deepEqual(difference(drawn, before, drawn.rect), rect && difference(drawn, before, rect));
    }
    assert.deepEqual(new Set(drawn.data), new Set([0, 1, 2, 3]));
});

test("undo to the oldest kept step and redo to the last are exact, with room for a few steps", () => {
    const mask = new Mask(40, 30);
    const history = new History(mask, 3000);
    const states = [mask.copy()];
    for (let k = 0; k < 12; k++) {
        const rect = drawLine(mask, { x: 3 * k, y: 5 }, { x: 40 - 2 * k, y: 25 }, 5, (k % 3) + 1);
        assert(rect && history.commit(rect));
        states.push(mask.copy());
    }
    const back = [];
    while (history.undo()) {
        back.push(mask.copy());
    }
    assert(back.length > 1 && back.length < 12);
    assert.deepEqual(back, states.toReversed().slice(1, back.length + 1));
    assert.equal(history.state, history.start);
    const forth = [];
    while (history.redo()) {
        forth.push(mask.copy());
    }
    assert.deepEqual(forth, states.slice(-back.length));
});

test("strokes that are cancelled leave no trace, and saving ends a stroke", () => {
    const editor = new Editor();
    editor.load(new Mask(20, 10));
    editor.line({ x: 2, y: 2 }, { x: 9, y: 5 }, 3, 1);
    editor.cancel();
    assert(editor.mask?.empty && editor.untouched && !editor.canUndo);

    editor.line({ x: 2, y: 2 }, { x: 9, y: 5 }, 3, 1);
    const { mask, saved } = editor.snapshot();
    assert.deepEqual(mask.data, editor.mask?.data);
    assert(editor.unsaved);
    editor.polygon([{ x: 0, y: 0 }, { x: 4, y: 0 }, { x: 0, y: 4 }], 2); // drawn while the mask is being sent
    saved();
    assert(editor.unsaved);
    editor.undo();
    assert(!editor.unsaved);
    editor.undo();
    assert(editor.mask?.empty && editor.unsaved);
    editor.clear();
    assert(editor.canRedo, "clearing an empty mask is no step");
});
