// SPDX-License-Identifier: Apache-2.0
/** The server's calls. URLs are relative to the page's address, which holds the token. */

import { decode, encode } from "./png.js";
import { NONE } from "./state.js";
import { cancelled } from "./status.js";

const GONE =
    "The server does not answer. Check that it still runs, then try again. Unsaved strokes are kept in this browser.";

/** @typedef {import("./mask.js").Mask} Mask */
/**
 * @typedef {{id: string, state: "new"|"predicted"|"corrected", uncertainty: number|null, held_out: boolean,
 *     confidence: number|null}} ImageEntry confidence: of a mask that was carried over to it
 */
/**
 * @typedef {{labels: number, held_out: number, unchanged?: number, dice_before: number|null,
 *     dice_after: number|null, previous_kept?: boolean}} PastTraining
 */
/**
 * @typedef {{status: "idle"|"running"|"done"|"failed"|"stopped", epoch: number, max_epochs: number, detail: string,
 *     held_out: number, unchanged: number, dice_before: number|null, dice_after: number|null, previous_kept: boolean,
 *     history: PastTraining[]}} Training
 */
/**
 * @typedef {{model: string, classes: {value: number, name: string, color: string}[], images: ImageEntry[],
 *     labelled: number, training: Training, max_epochs: number, volumes: boolean, withdraws: boolean}} ServerState
 */
/**
 * @typedef {object} Options parameters of a call, beside those of `fetch`
 * @property {string} [id]
 * @property {string} [replaces]
 * @property {string} [drawn_on]
 * @property {boolean} [carried]
 * @property {number} [frames]
 * @property {object} [json] the body
 * @property {AbortSignal} [signal]
 * @property {number} [seconds] that are waited for an answer
 */

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

/** @param {Response} response */
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

/**
 * @param {string} path
 * @param {Options & RequestInit} [options]
 */
async function call(path, options = {}) {
    const { id, replaces, drawn_on, carried, frames, json, signal, seconds = 60, ...rest } = options;
    const limit = AbortSignal.timeout(seconds * 1000);
    /** @type {RequestInit} */
    const init = { ...rest, signal: signal ? AbortSignal.any([signal, limit]) : limit };
    if (json) {
        init.body = JSON.stringify(json);
        init.headers = { "Content-Type": "application/json" };
    }
    const asked = Object.entries({ id, replaces, drawn_on, carried, frames })
        .flatMap(([name, given]) => (given === undefined ? [] : [`${name}=${encodeURIComponent(given)}`]))
        .join("&");
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

/**
 * @template T
 * @param {Promise<T>} reading the content of an answer
 */
async function body(reading) {
    try {
        return await reading;
    } catch (error) {
        if (cancelled(error)) {
            throw error;
        }
        throw new CallError(GONE, 0); // the connection broke during the answer
    }
}

/**
 * @param {string} path
 * @param {Options & RequestInit} [options]
 */
async function json(path, options) {
    return body((await call(path, options)).json());
}

/**
 * @param {string} path
 * @param {Options} options
 */
async function mask(path, options) {
    const response = await call(path, { ...options, seconds: 120 });
    const version = response.headers.get("label-version") ?? NONE;
    return { mask: await decode(await body(response.arrayBuffer())), version };
}

/**
 * Get the state of model, classes, images and training.
 *
 * @returns {Promise<ServerState>}
 */
export const getState = () => json("state");

/**
 * Get an image to show.
 *
 * @param {string} id
 * @param {AbortSignal} signal
 * @returns {Promise<{file: ArrayBuffer, note: string, version: string}>} note: how it differs from the network's input;
 *     version: of the image's file
 */
export async function getImage(id, signal) {
    const response = await call("image", { id, signal });
    const [note, version] = ["page-note", "image-version"].map((name) => response.headers.get(name) ?? "");
    return { file: await body(response.arrayBuffer()), note, version };
}

/**
 * @param {string} id
 * @param {AbortSignal} [signal]
 * @param {boolean} [carried] false: the network's own, which replaces a mask that was carried over
 * @returns {Promise<Mask>}
 */
export const getPrediction = async (id, signal, carried) => (await mask("prediction", { id, signal, carried })).mask;

/**
 * @param {string} id
 * @returns {Promise<{mask: Mask, version: string}>}
 */
export const getLabel = (id) => mask("label", { id });

/**
 * Save a mask as an image's label.
 *
 * @param {string} id
 * @param {Mask} saved
 * @param {string} replaces the label's version, or "none"; the server refuses if it has another version
 * @param {string} drawn_on the version of the image's file; likewise
 * @returns {Promise<{version: string}>}
 */
export async function putLabel(id, saved, replaces, drawn_on) {
    const headers = { "Content-Type": "image/png" };
    return json("label", { id, replaces, drawn_on, method: "PUT", body: await encode(saved), headers });
}

/**
 * Withdraw an image's label.
 *
 * @param {string} id
 * @returns {Promise<{file: string}>} where the server has moved it
 */
export const deleteLabel = (id) => json("label", { id, method: "DELETE" });

/**
 * Carry an image's saved mask over to other frames of its sequence.
 *
 * @param {string} id
 * @param {number} frames negative: those before
 * @returns {Promise<{carried: {id: string, confidence: number}[], stopped: string}>} stopped: why there are fewer
 */
export const carryOver = (id, frames) => json("carry", { id, frames, method: "POST", seconds: 300 });

/**
 * @param {string[]} skip ids of images that are not wanted
 * @returns {Promise<string|null>} the id of the most uncertain image that has no label; null: none is left
 */
export const nextImage = async (skip) => (await json("next", { method: "POST", json: { skip } })).id;

/**
 * Get the training's state.
 *
 * @returns {Promise<Training>}
 */
export const getTraining = () => json("train");

/**
 * Start a training.
 *
 * @param {number} epochs
 * @returns {Promise<Training>}
 */
export const startTraining = (epochs) => json("train", { method: "POST", json: { max_epochs: epochs } });

/**
 * Stop the training.
 *
 * @returns {Promise<Training>}
 */
export const stopTraining = () => json("train", { method: "DELETE" });
