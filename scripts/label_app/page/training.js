// SPDX-License-Identifier: Apache-2.0
/** The panel that starts, follows and stops a training. */

import { getTraining, startTraining, stopTraining } from "./api.js";
import { drawPlot } from "./plot.js";
import { say, sayError } from "./status.js";

const POLL = 1000; // milliseconds between two requests while a training runs
const POLL_GONE = 4000; // the same while the server does not answer

const number = (dice) => dice.toFixed(3);
const plural = (count) => (count === 1 ? "" : "s");
const epochsOf = (count) => `${count} epoch${plural(count)}`;
const labels = (count) => `${count} held-out label${plural(count)}`;

/** Event `finished`: a training has ended, and with it the old predictions. */
export class TrainingPanel extends EventTarget {
    #root;
    #timer = 0;
    #running = false;
    #gone = false; // the server did not answer the last request
    #labelled = 0;

    /** @param {HTMLElement} root */
    constructor(root) {
        super();
        this.#root = root;
        this.#part("form").addEventListener("submit", (event) => {
            event.preventDefault();
            if (this.#running) {
                this.#stop();
            } else {
                this.#start();
            }
        });
    }

    /** Whether a training runs. */
    get running() {
        return this.#running;
    }

    /** Show what the server says at the start, and follow a training that runs already. */
    set(training, epochs) {
        this.#part("#epochs").value = epochs;
        this.#show(training);
    }

    /** How many labels there are to train on. */
    setLabelled(labelled) {
        this.#labelled = labelled;
        this.#root.dataset.labelled = labelled;
        this.#enable();
    }

    #part(selector) {
        return this.#root.querySelector(selector);
    }

    #enable() {
        const button = this.#part("#train");
        button.disabled = !this.#running && this.#labelled === 0;
        button.textContent = this.#running ? "Stop" : "Train";
        button.title = button.disabled ? "Save the first mask, then train on it" : "";
        this.#part("#epochs").disabled = this.#running;
    }

    async #start() {
        const epochs = this.#part("#epochs");
        this.#part("#train").disabled = true;
        say("Starting the training …", "busy");
        try {
            this.#show(await startTraining(Number(epochs.value)));
            say("Training. You can go on correcting.");
        } catch (error) {
            sayError(error, "The training did not start. ");
        }
        this.#enable();
    }

    async #stop() {
        this.#part("#train").disabled = true;
        say("Stopping the training …", "busy");
        try {
            this.#show(await stopTraining());
        } catch (error) {
            sayError(error, "The training was not stopped. ");
        }
        this.#enable();
    }

    async #poll() {
        try {
            const training = await getTraining();
            if (this.#gone) {
                say("The server answers again.");
            }
            this.#gone = false;
            this.#show(training);
        } catch (error) {
            this.#gone = true;
            sayError(error);
            this.#again(POLL_GONE);
        }
    }

    #again(wait) {
        clearTimeout(this.#timer);
        if (this.#running) {
            this.#timer = setTimeout(() => this.#poll(), wait);
        }
    }

    #show(training) {
        const ended = this.#running && training.status !== "running";
        this.#running = training.status === "running";
        this.#root.dataset.status = training.status;
        const bar = this.#part("progress");
        bar.max = Math.max(training.max_epochs, 1);
        bar.value = training.epoch;
        this.#part("#epoch").textContent = this.#sentence(training);
        this.#part("#dice").textContent = this.#diceOf(training);
        this.#part("#no_plot").hidden = drawPlot(this.#part("#plot"), training.history);
        this.#enable();
        this.#again(POLL);
        if (ended) {
            this.#tell(training);
            this.dispatchEvent(new Event("finished"));
        }
    }

    /** The result of this training, or of the last one before the server was restarted. */
    #diceOf(training) {
        const last = training.status === "idle" ? training.history.at(-1) : null;
        const { dice_before: before, dice_after: after, held_out: heldOut, unchanged = 0 } = last ?? training;
        const compared = labels(heldOut - unchanged);
        const leftOut = unchanged ? `, ${unchanged} more left out: unchanged prediction${plural(unchanged)}` : "";
        if (before === null && after === null) {
            const none = unchanged ? "none, held out are unchanged predictions only" : "after the training";
            return `Dice: ${this.#labelled < 3 ? "from three labels on" : none}`;
        }
        if (after === null) {
            return `Dice ${number(before)} before, on ${compared}${leftOut}`;
        }
        return `Dice ${before === null ? "" : `${number(before)} → `}${number(after)} on ${compared}${leftOut}`;
    }

    #sentence({ status, epoch, max_epochs: epochs, history, previous_kept: previous }) {
        const last = history.at(-1);
        const sentences = {
            idle: last ? `Last trained on ${last.labels} label${plural(last.labels)}` : "Not trained here yet",
            running: epoch ? `Epoch ${epoch} of ${epochs}` : "Preparing …",
            done: `Done, ${epochsOf(epochs)}${previous ? ", previous weights kept" : ""}`,
            failed: "Failed, previous weights kept",
            stopped: epoch
                ? `Stopped after ${epoch} of ${epochsOf(epochs)}${previous ? ", previous weights kept" : ""}`
                : "Stopped before the first epoch ended",
        };
        return sentences[status];
    }

    #tell({ status, detail, dice_before: before, dice_after: after, previous_kept: previous }) {
        if (status === "failed") {
            say(`The training failed. ${detail}`, "error");
            return;
        }
        const dice = before === null || after === null ? "" : ` Dice ${number(before)} before, ${number(after)} after.`;
        const worse = previous ? " The new weights are worse: the previous ones are kept." : "";
        say(`The training ${status === "stopped" ? "was stopped" : "is done"}.${dice}${worse}`);
    }
}
