// SPDX-License-Identifier: Apache-2.0
/** Loads images and masks from the server, and keeps the last ones and those loaded ahead. */

import { CallError, getImage, getLabel, getPrediction } from "./api.js";
import { fingerprint } from "./drafts.js";

const KEPT = 4; // images

async function imageOf(id, signal) {
    const { file, ...more } = await getImage(id, signal);
    try {
        const bitmap = await createImageBitmap(new Blob([file]));
        return { bitmap, fingerprint: fingerprint(file), ...more };
    } catch {
        throw new CallError(`The browser cannot show what the server sent for ${id}.`, 0);
    }
}

/** Loads each thing once. */
export class Loader {
    #images = new Map();
    #predictions = new Map();

    /** @returns {Promise<{bitmap: ImageBitmap, fingerprint: string, note: string, version: string}>} */
    image(id) {
        return this.#get(this.#images, id, imageOf);
    }

    /** @returns {Promise<import("./mask.js").Mask>} a copy of your own */
    async prediction(id) {
        return (await this.#get(this.#predictions, id, getPrediction)).copy();
    }

    /** @returns {Promise<{mask: import("./mask.js").Mask, version: string}>} the saved label, always asked for anew */
    label(id) {
        return getLabel(id);
    }

    /** Load the image that will be opened next; errors show when it is opened. */
    ahead(id) {
        Promise.all([this.image(id), this.prediction(id)]).catch(() => {});
    }

    /** Cancel the pending calls of other images, so that the server is free for this one. */
    giveUpAllBut(id) {
        for (const kept of [this.#images, this.#predictions]) {
            for (const [other, entry] of kept) {
                if (other !== id && !entry.done) {
                    entry.controller.abort();
                    kept.delete(other);
                }
            }
        }
    }

    /** Drop what is outdated because the weights have changed. */
    forgetPredictions() {
        this.#predictions.clear();
    }

    /** Drop what is outdated because the image's file was replaced. */
    forget(id) {
        this.#images.delete(id);
        this.#predictions.delete(id);
    }

    #get(kept, id, load) {
        let entry = kept.get(id);
        kept.delete(id); // it moves to the end, since the oldest are dropped first
        if (!entry) {
            const controller = new AbortController();
            entry = { controller, done: false, promise: load(id, controller.signal) };
            const created = entry;
            entry.promise.then(
                () => (created.done = true),
                () => kept.get(id) === created && kept.delete(id),
            );
        }
        kept.set(id, entry);
        if (kept.size > KEPT) {
            kept.delete(kept.keys().next().value);
        }
        return entry.promise;
    }
}
