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
     */
    constructor(message, status) {
        super(message);
        this.status = status;
    }
}

async function sentence(response) {
    try {
        const { detail } = await response.json();
        if (typeof detail === "string" && detail) {
            return detail;
        }
    } catch {
        // not JSON: not from this server's own checks
    }
    return `The server refused with status ${response.status}.`;
}

async function call(path, options = {}) {
    const { id, json, signal, seconds = 60, ...rest } = options;
    const limit = AbortSignal.timeout(seconds * 1000);
    const init = { ...rest, signal: signal ? AbortSignal.any([signal, limit]) : limit };
    if (json) {
        init.body = JSON.stringify(json);
        init.headers = { "Content-Type": "application/json" };
    }
    let response;
    try {
        response = await fetch(`page/${path}${id === undefined ? "" : `?id=${encodeURIComponent(id)}`}`, init);
    } catch (error) {
        if (signal?.aborted) {
            throw error;
        }
        throw new CallError(limit.aborted ? `The server has not answered for ${seconds} seconds.` : GONE, 0);
    }
    if (!response.ok) {
        throw new CallError(await sentence(response), response.status);
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
        throw new CallError(GONE, 0); // the connection broke amid the answer
    }
}

async function json(path, options) {
    return body(await call(path, options), "json");
}

async function mask(path, id, signal) {
    return decode(await body(await call(path, { id, signal, seconds: 120 }), "arrayBuffer"));
}

/** Model, classes, images and training. */
export const getState = () => json("state");

/** @returns {Promise<{file: ArrayBuffer, note: string}>} what is shown; how it differs from what the network gets */
export async function getImage(id, signal) {
    const response = await call("image", { id, signal });
    return { file: await body(response, "arrayBuffer"), note: response.headers.get("page-note") ?? "" };
}

/** @returns {Promise<import("./mask.js").Mask>} */
export const getPrediction = (id, signal) => mask("prediction", id, signal);

/** @returns {Promise<import("./mask.js").Mask>} */
export const getLabel = (id, signal) => mask("label", id, signal);

/** Save a mask as an image's label. */
export async function putLabel(id, saved) {
    const headers = { "Content-Type": "image/png" };
    return json("label", { id, method: "PUT", body: await encode(saved), headers });
}

/** Take an image's label back. @returns {Promise<{file: string}>} where the server has moved it */
export const deleteLabel = (id) => json("label", { id, method: "DELETE" });

/** @returns {Promise<string|null>} the id of the most uncertain image that has no label; null: none is left */
export const nextImage = async (skip) =>
    (await json("next", { method: "POST", json: { strategy: "uncertainty", skip } })).id;

/** The training's state. */
export const getTraining = () => json("train");

/** Start a training. */
export const startTraining = (epochs) => json("train", { method: "POST", json: { max_epochs: epochs } });

/** Stop the training. */
export const stopTraining = () => json("train", { method: "DELETE" });
