// SPDX-License-Identifier: Apache-2.0
/** Saves and withdraws the mask of the open image, and keeps strokes that are not saved. */

import { CallError, deleteLabel, putLabel } from "./api.js";
import { NONE } from "./state.js";
import { messageOf, say, sayError, sentences } from "./status.js";

/** The part of the page that sends masks to the server. */
export class Saving {
    #state;
    #parts;

    /**
     * @param {import("./state.js").State} state
     * @param {{editor: import("./editor.js").Editor, tools: import("./tools.js").Tools,
     *     list: import("./images.js").ImageList, loader: import("./loader.js").Loader,
     *     opening: import("./opening.js").Opening}} parts
     */
    constructor(state, parts) {
        this.#state = state;
        this.#parts = parts;
        parts.editor.addEventListener("step", () => this.#keepDraft());
    }

    /** @returns {Promise<boolean>} whether the server has the mask now */
    async save() {
        const { id } = this.#state.open;
        if (id === null || this.#parts.editor.mask === null) {
            return false;
        }
        this.#state.saving ??= this.#save(id).finally(() => (this.#state.saving = null));
        return this.#state.saving;
    }

    /** Withdraw the saved label, and show the prediction again. */
    async withdraw() {
        const { list, tools, opening } = this.#parts;
        const { id } = this.#state.open;
        if (id === null || list.state(id) !== "corrected") {
            return;
        }
        tools.closePolygon();
        await this.#state.saving;
        say("Withdrawing …", "busy");
        try {
            const { file } = await deleteLabel(id);
            list.update(id, { state: "new" });
            this.#state.relabelled();
            if (id === this.#state.open.id) {
                const news = `${id} is not corrected any more. Its mask was moved to ${file} in the work folder.`;
                await opening.open(id, { news });
            }
        } catch (error) {
            sayError(error, "Not withdrawn. ");
        }
    }

    /** @param {string} id */
    async #save(id) {
        const { editor, list, loader, tools } = this.#parts;
        tools.closePolygon();
        const { mask, saved } = editor.snapshot();
        const { version, drawnOn } = this.#state.open;
        say("Saving …", "busy");
        try {
            const answer = await putLabel(id, mask, version, drawnOn);
            list.update(id, { state: "corrected", confidence: null });
            this.#state.set({ version: answer.version, source: "label", foundNothing: false });
            saved();
            say(`Saved ${id}.`, "ok");
            this.#state.relabelled();
            return true;
        } catch (error) {
            const refused = error instanceof CallError ? error : null;
            const elsewhere = refused?.status === 409;
            if (elsewhere) {
                this.#state.set({ version: refused?.version ?? NONE }); // the user knows of this version now
                this.#state.relabelled();
            }
            if (refused?.status === 412) {
                loader.forget(id);
            }
            const again = elsewhere ? "Save again to replace that mask with yours." : "";
            say(sentences("Not saved. Your strokes are kept.", messageOf(error), again), "error");
            return false;
        }
    }

    async #keepDraft() {
        const { editor, list, opening } = this.#parts;
        const { id, fingerprint, version } = this.#state.open;
        if (editor.mask === null || id === null || fingerprint === null) {
            return;
        }
        list.mark(id, { draft: editor.unsaved });
        try {
            await opening.drafts?.set(id, fingerprint, editor.unsaved ? editor.mask : null, version);
        } catch {
            say("The browser's storage is full: it does not keep unsaved strokes. Save before you leave.", "error");
        }
    }
}
