// SPDX-License-Identifier: Apache-2.0
/** Loads images and masks from the server, and keeps the last ones and those loaded ahead. */

import { CallError, getImage, getLabel, getPrediction } from "./api.js";
import { fingerprint } from "./drafts.js";

const KEPT = 4; // images

/** @typedef {{bitmap: ImageBitmap, fingerprint: string, note: string, version: string}} LoadedImage */
/**
 * @template T
 * @typedef {{controller: AbortController, done: boolean, promise: Promise<T>}} Entry
 */

/**
 * @param {string} id
 * @param {AbortSignal} signal
 * @returns {Promise<LoadedImage>}
 */
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
    /** @type {Map<string, Entry<LoadedImage>>} */
    #images = new Map();
    /** @type {Map<string, Entry<import("./mask.js").Mask>>} */
    #predictions = new Map();

    /** @param {string} id */
    image(id) {
        return this.#get(this.#images, id, imageOf);
    }

    /**
     * @param {string} id
     * @returns {Promise<import("./mask.js").Mask>} a copy of your own
     */
    async prediction(id) {
        return (await this.#get(this.#predictions, id, getPrediction)).copy();
    }

    /**
     * @param {string} id
     * @returns {Promise<import("./mask.js").Mask>} the network's own, in place of a mask that was carried over
     */
    async ownPrediction(id) {
        const found = await getPrediction(id, undefined, false);
        this.#predictions.delete(id);
        return found;
    }

    /**
     * @param {string} id
     * @returns {Promise<{mask: import("./mask.js").Mask, version: string}>} the saved label, always asked for anew
     */
    label(id) {
        return getLabel(id);
    }

    /**
     * Load the image that will be opened next; errors show when it is opened.
     *
     * @param {string} id
     */
    ahead(id) {
        Promise.all([this.image(id), this.prediction(id)]).catch(() => {});
    }

    /**
     * Cancel the pending calls of other images, so that the server is free for this one.
     *
     * @param {string} id
     */
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

    /**
     * Drop what is outdated because the image's file was replaced.
     *
     * @param {string} id
     */
    forget(id) {
        this.#images.delete(id);
        this.forgetPredictions();
    }

    /**
     * @template T
     * @param {Map<string, Entry<T>>} kept
     * @param {string} id
     * @param {(id: string, signal: AbortSignal) => Promise<T>} load
     */
    #get(kept, id, load) {
        let entry = kept.get(id);
        kept.delete(id); // it moves to the end, since the oldest are dropped first
        if (!entry) {
            const controller = new AbortController();
            const created = { controller, done: false, promise: load(id, controller.signal) };
            entry = created;
            created.promise.then(
                () => (created.done = true),
                () => kept.get(id) === created && kept.delete(id),
            );
        }
        kept.set(id, entry);
        const [oldest] = kept.keys();
        if (kept.size > KEPT) {
            kept.delete(oldest);
        }
        return entry.promise;
    }
}
