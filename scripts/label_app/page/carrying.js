// SPDX-License-Identifier: Apache-2.0
/** Carries the saved mask of the open image over to other frames of its sequence. */

import { carryOver } from "./api.js";
import { find } from "./dom.js";
import { say, sayError, sentences } from "./status.js";

/** The button, its key and the number of frames. */
export class Carrying {
    #state;
    #parts;
    #frames = find("#frames", HTMLInputElement);
    #busy = false;

    /**
     * @param {import("./state.js").State} state
     * @param {{editor: import("./editor.js").Editor, list: import("./images.js").ImageList,
     *     loader: import("./loader.js").Loader}} parts
     */
    constructor(state, parts) {
        this.#state = state;
        this.#parts = parts;
    }

    /** Carry over to as many frames as the field says. */
    async carry() {
        const { editor, list, loader } = this.#parts;
        const { id } = this.#state.open;
        if (id === null || this.#busy || !this.#frames.reportValidity()) {
            return;
        }
        if (list.state(id) !== "corrected" || editor.unsaved) {
            say("Save this mask first: the saved mask is what is carried over.", "error");
            return;
        }
        this.#busy = true;
        say("Carrying over …", "busy");
        try {
            const { carried, stopped } = await carryOver(id, this.#frames.valueAsNumber);
            const sure = carried.map((frame) => frame.confidence.toFixed(2)).sort();
            const news = `Carried over to ${carried.length} frame${carried.length === 1 ? "" : "s"}, confidence ${sure[0]} to ${sure[sure.length - 1]}.`;
            say(sentences(stopped, sure.length ? news : "Carried over to no frame."), sure.length ? "info" : "error");
        } catch (error) {
            sayError(error, "Not carried over, or not to all frames. ");
        } finally {
            this.#busy = false;
            loader.forgetPredictions();
            this.#state.relabelled();
        }
    }
}
