// SPDX-License-Identifier: Apache-2.0
/** What the page says of trainings, and where the points of its plot are. */

import assert from "node:assert/strict";
import test from "node:test";
import { plotOf } from "../../../../scripts/label_app/page/plot.js";
import { diceOf, endOf, stateOf } from "../../../../scripts/label_app/page/training_text.js";

const none = { status: "idle", epoch: 0, max_epochs: 6, detail: "", held_out: 2, unchanged: 0, dice_before: null,
    dice_after: null, previous_kept: false, history: [] }; // prettier-ignore
const training = (/** @type {object} */ changes) =>
    /** @type {import("../../../../scripts/label_app/page/api.js").Training} */ ({ ...none, ...changes });

test("sentences about trainings", () => {
    const both = { dice_before: 0.5, dice_after: 0.75 };
    /** @type {[object, string, string][]} */
    const cases = [
        [{ status: "stopped", dice_before: 0.982 },
            "Stopped before the first epoch ended", "Dice 0.982 before, on 2 held-out labels"],
        [{ status: "stopped", epoch: 1, max_epochs: 1, dice_before: 0.5, dice_after: 0.25, previous_kept: true },
            "Stopped after 1 of 1 epoch, previous weights kept", "Dice 0.500 → 0.250 on 2 held-out labels"],
        [{ status: "done", epoch: 1, max_epochs: 1, held_out: 1, ...both },
            "Done, 1 epoch", "Dice 0.500 → 0.750 on 1 held-out label"],
        [{ status: "done", epoch: 6, unchanged: 1, ...both },
            "Done, 6 epochs", "Dice 0.500 → 0.750 on 1 held-out label, 1 more left out: unchanged prediction"],
        [{ status: "done", epoch: 6, unchanged: 2 },
            "Done, 6 epochs", "Dice: none, held out are unchanged predictions only"],
        [{ status: "done", epoch: 6, dice_after: 0.75 }, "Done, 6 epochs", "Dice 0.750 on 2 held-out labels"],
        [{ history: [{ labels: 1, held_out: 1, ...both }] },
            "Last trained on 1 label", "Dice 0.500 → 0.750 on 1 held-out label"],
    ]; // prettier-ignore
    for (const [changes, state, dice] of cases) {
        assert.deepEqual([stateOf(training(changes)), diceOf(training(changes), 9)], [state, dice]);
    }
    assert.equal(diceOf(training({}), 2), "Dice: from three labels on");
    const worse = training({ status: "stopped", dice_before: 0.5, dice_after: 0.25, previous_kept: true });
    const said = "The training was stopped. Dice 0.500 before, 0.250 after.";
    assert.equal(endOf(worse), `${said} The new weights are worse: the previous ones are kept.`);
});

test("the plot's axis ends at a round number behind the last point; a refused training is a dot beside the line", () => {
    const { columns, dots, rows } = plotOf([
        { labels: 3, held_out: 0, dice_before: null, dice_after: null },
        { labels: 6, held_out: 1, dice_before: 0.5, dice_after: 0.8 },
        { labels: 12, held_out: 2, dice_before: 0.8, dice_after: 0.6, previous_kept: true },
    ]);
    const last = columns.at(-1);
    assert.equal(last?.text, "15");
    assert.deepEqual(rows.map(({ text }) => text), ["0.4", "0.7", "1"]); // a tenth below 0.5
    assert.deepEqual(dots.map(({ kind }) => kind), ["before", "after", "before", "refused", "after"]);
    const [before, after, kept, refused, inUse] = dots;
    assert.equal(inUse.x, 28 + ((last?.x ?? 0) - 28) * (12 / 15));
    assert.deepEqual([after.y, kept.y], [inUse.y, inUse.y]);
    assert(inUse.y < refused.y && refused.y < before.y); // of 0.8, 0.6 and 0.5, upwards
    assert.equal(refused.title, "12 labels: Dice 0.600, 0.800 before (2 compared)");
    assert.deepEqual(plotOf([]).dots, []);
});
