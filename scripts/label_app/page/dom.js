// SPDX-License-Identifier: Apache-2.0
/** Finds elements of the page, and says so where one is missing. */

/**
 * @template {Element} T
 * @param {string} selector
 * @param {{new (): T}} kind the class of the element, such as HTMLInputElement
 * @param {ParentNode} [root] where to look. Defaults to the whole page
 * @returns {T}
 */
export function find(selector, kind, root = document) {
    const found = root.querySelector(selector);
    if (!(found instanceof kind)) {
        throw new Error(`The page has no ${kind.name} ${selector}.`);
    }
    return found;
}

/**
 * @param {string} selector
 * @param {ParentNode} [root] where to look. Defaults to the whole page
 */
export const part = (selector, root = document) => find(selector, HTMLElement, root);

/** @param {string} command */
export const buttonOf = (command) => find(`[data-command="${command}"]`, HTMLButtonElement);

/** @param {HTMLCanvasElement} canvas */
export function context(canvas) {
    const found = canvas.getContext("2d", { willReadFrequently: canvas.id === "image" });
    if (!found) {
        throw new Error("The browser gives no canvas to draw on.");
    }
    return found;
}
