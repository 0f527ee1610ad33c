// SPDX-License-Identifier: Apache-2.0
/** Sentences about a training. */

/** @typedef {import("./api.js").Training} Training */

const number = (/** @type {number} */ dice) => dice.toFixed(3);
const plural = (/** @type {number} */ count) => (count === 1 ? "" : "s");
const epochsOf = (/** @type {number} */ count) => `${count} epoch${plural(count)}`;

/**
 * The Dice of this training, or of the last one before the server was restarted.
 *
 * @param {Training} training
 * @param {number} labelled how many labels there are
 */
export function diceOf(training, labelled) {
    const last = training.status === "idle" ? training.history.at(-1) : undefined;
    const { dice_before: before, dice_after: after, held_out: heldOut, unchanged = 0 } = last ?? training;
    const compared = `${heldOut - unchanged} held-out label${plural(heldOut - unchanged)}`;
    const leftOut = unchanged ? `, ${unchanged} more left out: unchanged prediction${plural(unchanged)}` : "";
    if (after === null) {
        const none = unchanged ? "none, held out are unchanged predictions only" : "after the training";
        return before === null
            ? `Dice: ${labelled < 3 ? "from three labels on" : none}`
            : `Dice ${number(before)} before, on ${compared}${leftOut}`;
    }
    return `Dice ${before === null ? "" : `${number(before)} → `}${number(after)} on ${compared}${leftOut}`;
}

/**
 * How far a training is.
 *
 * @param {Training} training
 */
export function stateOf({ status, epoch, max_epochs: epochs, history, previous_kept: previous }) {
    const last = history.at(-1);
    const kept = previous ? ", previous weights kept" : "";
    const sentences = {
        idle: last ? `Last trained on ${last.labels} label${plural(last.labels)}` : "Not trained here yet",
        running: epoch ? `Epoch ${epoch} of ${epochs}` : "Preparing …",
        done: `Done, ${epochsOf(epochs)}${kept}`,
        failed: "Failed, previous weights kept",
        stopped: epoch
            ? `Stopped after ${epoch} of ${epochsOf(epochs)}${kept}`
            : "Stopped before the first epoch ended",
    };
    return sentences[status];
}

/**
 * How a training ended.
 *
 * @param {Training} training
 */
export function endOf({ status, detail, dice_before: before, dice_after: after, previous_kept: previous }) {
    if (status === "failed") {
        return `The training failed. ${detail}`;
    }
    const dice = before === null || after === null ? "" : ` Dice ${number(before)} before, ${number(after)} after.`;
    const worse = previous ? " The new weights are worse: the previous ones are kept." : "";
    return `The training ${status === "stopped" ? "was stopped" : "is done"}.${dice}${worse}`;
}
