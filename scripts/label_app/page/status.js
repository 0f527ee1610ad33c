// SPDX-License-Identifier: Apache-2.0
/** The status bar: one sentence about what has just happened or what is wrong. */

const bar = document.querySelector("#status");
let timer = 0;

/**
 * @param {string} sentence
 * @param {"info"|"busy"|"ok"|"error"} [kind] errors stay until something else is said. Defaults to "info"
 */
export function say(sentence, kind = "info") {
    clearTimeout(timer);
    bar.dataset.kind = kind;
    bar.textContent = sentence;
    bar.title = sentence;
    if (kind === "ok") {
        timer = setTimeout(() => say(""), 6000);
    }
}

/** Show what went wrong; a cancelled call is not an error. */
export function sayError(error, before = "") {
    if (error.name !== "AbortError") {
        say(`${before}${error.message}`, "error");
    }
}
