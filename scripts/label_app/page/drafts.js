// SPDX-License-Identifier: Apache-2.0
/**
 * Unsaved strokes, kept in the browser (IndexedDB) until they are saved.
 *
 * A draft belongs to an image's id and content, so that it is found again after the server was restarted with another
 * token, and is never shown on another image of the same name.
 */

import { Mask } from "./mask.js";
import { NONE } from "./state.js";

const STORE = "drafts";
const DAYS = 30; // after which an unused draft is removed

/**
 * A short hash of an image's file.
 *
 * @param {ArrayBuffer} buffer
 */
export function fingerprint(buffer) {
    const bytes = new Uint8Array(buffer);
    let a = 0x811c9dc5;
    let b = bytes.length | 0;
    for (const value of bytes) {
        a = Math.imul(a ^ value, 0x01000193);
        b = Math.imul(b ^ value, 0x5bd1e995) + a;
    }
    return `${(a >>> 0).toString(16)}-${(b >>> 0).toString(16)}`;
}

/**
 * @template T
 * @param {IDBRequest<T>} request
 * @returns {Promise<T>}
 */
function settled(request) {
    return new Promise((resolve, reject) => {
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
    });
}

/**
 * @param {IDBTransaction} transaction
 * @returns {Promise<void>}
 */
function finished(transaction) {
    return new Promise((resolve, reject) => {
        transaction.oncomplete = () => resolve();
        transaction.onerror = transaction.onabort = () => reject(transaction.error);
    });
}

/** The drafts of this server's address (the browser keeps a database for each host and port). */
export class Drafts {
    #database;
    /** @type {Map<string, {key: [string, string], draft: object|null}>} */
    #waiting = new Map(); // writes that wait for the current one; later writes of a draft replace earlier ones
    /** @type {Promise<void>|null} */
    #writing = null;

    /** @param {IDBDatabase} database */
    constructor(database) {
        this.#database = database;
    }

    /** @returns {Promise<Drafts>} fails if the browser stores no data */
    static async open() {
        const request = indexedDB.open("unetv2-label", 1);
        request.onupgradeneeded = () =>
            request.result.createObjectStore(STORE, { keyPath: ["id", "image"] }).createIndex("time", "time");
        return new Drafts(await settled(request));
    }

    /** @returns {Promise<Set<string>>} ids of the images that have a draft; old drafts are removed */
    async ids() {
        const store = this.#database.transaction(STORE, "readwrite").objectStore(STORE);
        const old = IDBKeyRange.upperBound(Date.now() - DAYS * 86400e3);
        for (const key of await settled(store.index("time").getAllKeys(old))) {
            store.delete(key);
        }
        return new Set((await settled(store.getAllKeys())).map((key) => /** @type {[string, string]} */ (key)[0]));
    }

    /**
     * @param {string} id
     * @param {string} image the image's fingerprint
     * @returns {Promise<{mask: Mask, version: string}|null>} version: of the label that it was drawn over
     */
    async get(id, image) {
        await this.#writing;
        const store = this.#database.transaction(STORE).objectStore(STORE);
        const draft = await settled(store.get([id, image]));
        return draft ? { mask: new Mask(draft.width, draft.height, draft.values), version: draft.version ?? NONE } : null;
    }

    /**
     * Store a draft, or remove the stored draft if the mask is null.
     *
     * @param {string} id
     * @param {string} image the image's fingerprint
     * @param {Mask|null} mask
     * @param {string} version of the label that it was drawn over
     * @returns {Promise<void>} when it is written
     */
    set(id, image, mask, version) {
        const { width, height, data: values } = mask?.copy() ?? {};
        const draft = mask && { id, image, width, height, version, values, time: Date.now() };
        this.#waiting.set(JSON.stringify([id, image]), { key: [id, image], draft });
        this.#writing ??= this.#write().finally(() => (this.#writing = null));
        return this.#writing;
    }

    async #write() {
        while (this.#waiting.size) {
            const transaction = this.#database.transaction(STORE, "readwrite");
            const store = transaction.objectStore(STORE);
            for (const { key, draft } of this.#waiting.values()) {
                if (draft) {
                    store.put(draft);
                } else {
                    store.delete(key);
                }
            }
            this.#waiting.clear();
            await finished(transaction);
        }
    }
}
