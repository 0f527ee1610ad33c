// SPDX-License-Identifier: Apache-2.0
/** The panel that starts, follows and stops a training. */

import { getTraining, startTraining, stopTraining } from "./api.js";
import { find, part } from "./dom.js";
import { drawPlot } from "./plot.js";
import { say, sayError } from "./status.js";
import { diceOf, endOf, stateOf } from "./training_text.js";

const POLL = 1000; // milliseconds between two requests while a training runs
const POLL_GONE = 4000; // the same while the server does not answer

/** @typedef {import("./api.js").Training} Training */

/** Event `finished`: a training has ended, and with it the old predictions. */
export class TrainingPanel extends EventTarget {
    #root;
    #epochs;
    #button;
    #bar;
    #plot;
    /** @type {ReturnType<typeof setTimeout>|undefined} */
    #timer;
    #running = false;
    #gone = false; // the server did not answer the last request
    #labelled = 0;

    /** @param {HTMLElement} root */
    constructor(root) {
        super();
        this.#root = root;
        this.#epochs = find("#epochs", HTMLInputElement, root);
        this.#button = find("#train", HTMLButtonElement, root);
        this.#bar = find("progress", HTMLProgressElement, root);
        this.#plot = find("#plot", SVGSVGElement, root);
        part("form", root).addEventListener("submit", (event) => {
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

    /**
     * Show what the server says at the start, and follow a training that runs already.
     *
     * @param {Training} training
     * @param {number} epochs to offer
     */
    set(training, epochs) {
        this.#epochs.value = String(epochs);
        this.#show(training);
    }

    /**
     * State how many labels there are to train on.
     *
     * @param {number} labelled
     */
    setLabelled(labelled) {
        this.#labelled = labelled;
        this.#enable();
    }

    #enable() {
        const button = this.#button;
        button.disabled = !this.#running && this.#labelled === 0;
        button.textContent = this.#running ? "Stop" : "Train";
        button.title = button.disabled ? "Save the first mask, then train on it" : "";
        this.#epochs.disabled = this.#running;
    }

    async #start() {
        this.#button.disabled = true;
        say("Starting the training …", "busy");
        try {
            this.#show(await startTraining(this.#epochs.valueAsNumber));
            say("Training. You can go on correcting.");
        } catch (error) {
            sayError(error, "The training did not start. ");
        }
        this.#enable();
    }

    async #stop() {
        this.#button.disabled = true;
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

    /** @param {number} wait milliseconds */
    #again(wait) {
        clearTimeout(this.#timer);
        if (this.#running) {
            this.#timer = setTimeout(() => this.#poll(), wait);
        }
    }

    /** @param {Training} training */
    #show(training) {
        const ended = this.#running && training.status !== "running";
        this.#running = training.status === "running";
        this.#root.dataset.status = training.status;
        this.#bar.max = Math.max(training.max_epochs, 1);
        this.#bar.value = training.epoch;
        part("#epoch", this.#root).textContent = stateOf(training);
        part("#dice", this.#root).textContent = diceOf(training, this.#labelled);
        part("#no_plot", this.#root).hidden = drawPlot(this.#plot, training.history);
        this.#enable();
        this.#again(POLL);
        if (ended) {
            say(endOf(training), training.status === "failed" ? "error" : "info");
            this.dispatchEvent(new Event("finished"));
        }
    }
}
