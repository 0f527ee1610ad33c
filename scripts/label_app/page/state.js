// SPDX-License-Identifier: Apache-2.0
/** What the page knows of the open image. Parts of the page read it here, and never from what is displayed. */

/** The version of a label that does not exist. */
export const NONE = "none";

/**
 * @typedef {"draft"|"label"|"prediction"|"none"|""} Source where the mask comes from. none: the server has none;
 *     "": no mask is shown
 */

/** What is stated of an image before it is loaded. */
const UNKNOWN = {
    size: /** @type {{width: number, height: number}|null} */ (null),
    source: /** @type {Source} */ (""),
    loading: true, // until the image and a mask are shown, or cannot be
    note: "", // how the display differs from the network's input
    foundNothing: false, // the prediction that is shown marks nothing
    fingerprint: /** @type {string|null} */ (null), // of the image's file as it is displayed
    drawnOn: "", // version of the image's file
    version: NONE, // of the label that the mask is to replace
};

/** Events: `change`, and `labels` when the server has other labels. */
export class State extends EventTarget {
    open = { id: /** @type {string|null} */ (null), ...UNKNOWN };
    hidden = false; // the mask is not displayed
    classes = /** @type {string[]} */ ([]); // their names
    withdraws = false; // the server can withdraw saved labels
    /** @type {Promise<boolean>|null} */
    saving = null; // while a mask is sent

    /**
     * Leave the open image for another one, about which nothing is known yet.
     *
     * @param {string} id
     */
    leaveFor(id) {
        if (id !== this.open.id) {
            this.hidden = false; // a mask that was hidden on another image
        }
        this.open = { id, ...UNKNOWN };
        this.#changed();
    }

    /** @param {Partial<State["open"]>} changes of the open image */
    set(changes) {
        Object.assign(this.open, changes);
        this.#changed();
    }

    /** @param {boolean} hidden */
    hide(hidden) {
        if (hidden !== this.hidden) {
            this.hidden = hidden;
            this.#changed();
        }
    }

    /** Say that the server has other labels. */
    relabelled() {
        this.dispatchEvent(new Event("labels"));
    }

    /** A sentence, without its full stop, about a prediction that marks nothing. */
    get nothing() {
        return `no ${this.classes.join(" and no ")} found`.replace(/^n/, "N");
    }

    #changed() {
        this.dispatchEvent(new Event("change"));
    }
}
