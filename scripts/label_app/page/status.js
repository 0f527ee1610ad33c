// SPDX-License-Identifier: Apache-2.0
/** The status bar: one sentence about what has just happened or what is wrong. */

import { part } from "./dom.js";

/** @typedef {"info"|"busy"|"ok"|"error"} Kind errors stay until something else is said */

/** What the bar says; changed by `say` alone. */
export const said = { sentence: "", kind: /** @type {Kind} */ ("info") };
let timer = /** @type {ReturnType<typeof setTimeout>|undefined} */ (undefined);

/**
 * @param {string} sentence
 * @param {Kind} [kind] defaults to "info"
 */
export function say(sentence, kind = "info") {
    clearTimeout(timer);
    Object.assign(said, { sentence, kind });
    const bar = part("#status");
    bar.dataset.kind = kind;
    bar.textContent = sentence;
    bar.title = sentence;
    if (kind === "ok") {
        timer = setTimeout(() => say(""), 6000);
    }
}

/**
 * Show what went wrong; a cancelled call is not an error.
 *
 * @param {unknown} error
 */
export function sayError(error, before = "") {
    if (!cancelled(error)) {
        say(`${before}${messageOf(error)}`, "error");
    }
}

/** @param {unknown} error */
export const cancelled = (error) => error instanceof Error && error.name === "AbortError";

/** @param {unknown} error */
export const messageOf = (error) => (error instanceof Error ? error.message : String(error));

/** @param {...string} parts sentences, of which empty ones are left out */
export const sentences = (...parts) => parts.filter(Boolean).join(" ");
