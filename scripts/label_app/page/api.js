// SPDX-License-Identifier: Apache-2.0
/** The server's calls. URLs are relative to the page's address, which holds the token. */

import { decode, encode } from "./png.js";

const GONE =
    "The server does not answer. Check that it still runs, then try again. Unsaved strokes are kept in this browser.";

/** A call that failed; `message` is a sentence for the user. */
export class CallError extends Error {
    /**
     * @param {string} message
     * @param {number} status of HTTP; 0: no answer
     * @param {string|null} version of the stored label, if the call was refused because of it
     */
    constructor(message, status, version = null) {
        super(message);
        this.status = status;
        this.version = version;
    }
}

async function sentence(response) {
    try {
        const { detail } = await response.json();
        if (typeof detail === "string" && detail) {
            return detail;
        }
    } catch {
        // the answer is not JSON, so it is not from this server's own checks
    }
    return `The server refused with status ${response.status}.`;
}

async function call(path, options = {}) {
    const { id, replaces, drawn_on, json, signal, seconds = 60, ...rest } = options;
    const limit = AbortSignal.timeout(seconds * 1000);
    const init = { ...rest, signal: signal ? AbortSignal.any([signal, limit]) : limit };
    if (json) {
        init.body = JSON.stringify(json);
        init.headers = { "Content-Type": "application/json" };
    }
    const query = Object.entries({ id, replaces, drawn_on }).filter(([, value]) => value !== undefined && value !== null);
    const asked = query.map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join("&");
    let response;
    try {
        response = await fetch(`page/${path}${asked && `?${asked}`}`, init);
    } catch (error) {
        if (signal?.aborted) {
            throw error;
        }
        throw new CallError(limit.aborted ? `The server has not answered for ${seconds} seconds.` : GONE, 0);
    }
    if (!response.ok) {
        throw new CallError(await sentence(response), response.status, response.headers.get("label-version"));
    }
    return response;
}

async function body(response, kind) {
    try {
        return await response[kind]();
    } catch (error) {
        if (error.name === "AbortError") {
            throw error;
        }
        throw new CallError(GONE, 0); // the connection broke during the answer
    }
}

async function json(path, options) {
    return body(await call(path, options), "json");
}

async function mask(path, id, signal) {
    const response = await call(path, { id, signal, seconds: 120 });
    return { mask: await decode(await body(response, "arrayBuffer")), version: response.headers.get("label-version") };
}

/** Get the state of model, classes, images and training. */
export const getState = () => json("state");

/**
 * Get an image to show.
 *
 * @returns {Promise<{file: ArrayBuffer, note: string, version: string}>} note: how it differs from the network's input;
 *     version: of the image's file
 */
export async function getImage(id, signal) {
    const response = await call("image", { id, signal });
    const [note, version] = ["page-note", "image-version"].map((name) => response.headers.get(name) ?? "");
    return { file: await body(response, "arrayBuffer"), note, version };
}

/** @returns {Promise<import("./mask.js").Mask>} */
export const getPrediction = async (id, signal) => (await mask("prediction", id, signal)).mask;

/** @returns {Promise<{mask: import("./mask.js").Mask, version: string}>} */
export const getLabel = (id, signal) => mask("label", id, signal);

/**
 * Save a mask as an image's label.
 *
 * @param {string} id
 * @param {import("./mask.js").Mask} saved
 * @param {string} replaces the label's version, or "none"; the server refuses if it has another version
 * @param {string} drawn_on the version of the image's file; likewise
 * @returns {Promise<{version: string}>}
 */
export async function putLabel(id, saved, replaces, drawn_on) {
    const headers = { "Content-Type": "image/png" };
    return json("label", { id, replaces, drawn_on, method: "PUT", body: await encode(saved), headers });
}

/** Withdraw an image's label. @returns {Promise<{file: string}>} where the server has moved it */
export const deleteLabel = (id) => json("label", { id, method: "DELETE" });

/** @returns {Promise<string|null>} the id of the most uncertain image that has no label; null: none is left */
export const nextImage = async (skip) =>
    (await json("next", { method: "POST", json: { skip } })).id;

/** Get the training's state. */
export const getTraining = () => json("train");

/** Start a training. */
export const startTraining = (epochs) => json("train", { method: "POST", json: { max_epochs: epochs } });

/** Stop the training. */
export const stopTraining = () => json("train", { method: "DELETE" });
