// SPDX-License-Identifier: Apache-2.0
/** Opens an image: loads and shows it with its draft, its saved label or else its prediction. */

import { CallError } from "./api.js";
import { context, find, part } from "./dom.js";
import { Mask } from "./mask.js";
import { NONE } from "./state.js";
import { cancelled, messageOf, say, sayError, sentences } from "./status.js";

const RETRY = 2000; // milliseconds until a busy server is asked for a prediction again

/** @typedef {{mask: Mask, version: string}} Versioned a mask and the version of the label that it is; "none": of none */

/** Events: `leave` (detail: id) before another image is opened; `shown` when an image and its mask are. */
export class Opening extends EventTarget {
    #state;
    #parts;
    #canvas = find("#image", HTMLCanvasElement);
    #layers = part("#layers");
    #notice = part("#notice");
    #ticket = 0; // number of the latest call of `open`; earlier calls stop when it has changed
    /** @type {import("./drafts.js").Drafts|null} */
    drafts = null; // set when the browser's database is open

    /**
     * @param {import("./state.js").State} state
     * @param {{view: import("./view.js").View, editor: import("./editor.js").Editor,
     *     tools: import("./tools.js").Tools, list: import("./images.js").ImageList,
     *     loader: import("./loader.js").Loader}} parts
     */
    constructor(state, parts) {
        super();
        this.#state = state;
        this.#parts = parts;
    }

    /**
     * @param {string} id
     * @param {{news?: string, back?: boolean}} [how] news: a sentence that stays in the status bar, defaults to none;
     *     back: the image that is left is not one to go back to, defaults to false
     */
    async open(id, { news = "", back = false } = {}) {
        const { tools, list, loader } = this.#parts;
        tools.closePolygon();
        await this.#state.saving; // what is being saved belongs to the image that is left
        const ticket = ++this.#ticket;
        tools.cancel();
        const left = this.#state.open.id;
        if (!back && left !== null && left !== id) {
            this.dispatchEvent(new CustomEvent("leave", { detail: left }));
        }
        loader.giveUpAllBut(id);
        this.#notice.hidden = true;
        this.#edit(null);
        this.#state.leaveFor(id);
        list.setCurrent(id);
        const slow = setTimeout(() => say(sentences(news, `Loading ${id} …`), "busy"), 250);
        const saved = list.state(id) === "corrected";
        const asked = saved ? loader.label(id) : this.#prediction(id);
        asked.catch(() => {}); // it is awaited only after the image
        try {
            const image = await loader.image(id);
            const draft = await this.drafts?.get(id, image.fingerprint);
            if (ticket !== this.#ticket) {
                return;
            }
            this.#showImage(image);
            list.mark(id, { draft: Boolean(draft) });
            if (draft) {
                this.#show(draft, "draft", true);
                say(sentences(news, "Your strokes that were not saved are back."));
            } else {
                this.#show(await this.#fitting(asked, ticket), saved ? "label" : "prediction");
                const found = this.#state.open.foundNothing ? `${this.#state.nothing}.` : "";
                say(sentences(news, found), news ? "ok" : "info");
            }
        } catch (error) {
            if (ticket !== this.#ticket) {
                return;
            }
            if (saved && statusOf(error) === 404) {
                list.update(id, { state: "new" }); // the file of the label was removed by hand
                this.#state.relabelled();
                await this.open(id, { news: `The saved mask of ${id} is gone.` });
            } else {
                this.#fail(id, error, saved);
            }
        } finally {
            clearTimeout(slow);
        }
    }

    /** Replace what is drawn by the prediction. */
    async usePrediction() {
        const { editor, list, loader } = this.#parts;
        const { id } = this.#state.open;
        const ticket = this.#ticket;
        if (id === null || editor.mask === null) {
            return;
        }
        say("Asking for the prediction …", "busy");
        try {
            const carried = list.confidence(id) !== null;
            const asked = carried ? loader.ownPrediction(id) : loader.prediction(id);
            const { mask } = await this.#fitting(asked.then((mask) => ({ mask, version: NONE })), ticket);
            list.update(id, { confidence: null });
            editor.replace(mask);
            say("This is the prediction. Undo brings back what was here.");
        } catch (error) {
            if (ticket === this.#ticket) {
                sayError(error, "No prediction. ");
            }
        }
    }

    /**
     * Show a message in place of an image.
     *
     * @param {string} sentence
     */
    notify(sentence) {
        this.#layers.hidden = true;
        this.#notice.textContent = sentence;
        this.#notice.hidden = false;
    }

    /** @param {{bitmap: ImageBitmap, fingerprint: string, note: string, version: string}} image */
    #showImage({ bitmap, fingerprint, note, version }) {
        const { width, height } = bitmap;
        this.#canvas.width = width;
        this.#canvas.height = height;
        context(this.#canvas).drawImage(bitmap, 0, 0);
        this.#layers.hidden = false;
        this.#parts.view.setSize(width, height);
        this.#state.set({ size: { width, height }, note, fingerprint, drawnOn: version });
    }

    /**
     * @param {string} id
     * @returns {Promise<Versioned>}
     */
    async #prediction(id) {
        return { mask: await this.#parts.loader.prediction(id), version: NONE };
    }

    /**
     * Wait for a mask. Throws if another image was opened meanwhile, or if the sizes differ.
     *
     * @param {Promise<Versioned>} promise
     * @param {number} ticket
     */
    async #fitting(promise, ticket) {
        const found = await promise;
        const { size } = this.#state.open;
        if (ticket !== this.#ticket || size === null) {
            throw new DOMException("another image was opened", "AbortError");
        }
        const { width, height } = found.mask;
        if (width !== size.width || height !== size.height) {
            throw new Error(`Its mask has ${width} x ${height} pixels, the image ${size.width} x ${size.height}.`);
        }
        return found;
    }

    /**
     * @param {Versioned} found
     * @param {import("./state.js").Source} source
     */
    #show({ mask, version }, source, unsaved = false) {
        const { list } = this.#parts;
        const { id } = this.#state.open;
        const predicted = source === "prediction";
        if (predicted && id !== null && list.state(id) === "new") {
            list.update(id, { state: "predicted" });
        }
        this.#state.set({ version }); // which is kept with unsaved strokes
        this.#edit(mask, unsaved);
        this.#state.set({ source, loading: false, foundNothing: predicted && mask.empty });
        this.dispatchEvent(new Event("shown"));
    }

    /** @param {Mask|null} mask */
    #edit(mask, unsaved = false) {
        this.#parts.tools.enabled = mask !== null;
        this.#parts.editor.load(mask, unsaved);
    }

    /**
     * @param {string} id
     * @param {unknown} error
     * @param {boolean} saved
     */
    #fail(id, error, saved) {
        if (cancelled(error)) {
            return;
        }
        const { size } = this.#state.open;
        if (size === null) {
            this.notify(messageOf(error));
            sayError(error);
            this.#state.set({ loading: false });
            return;
        }
        if (saved) {
            // a mask drawn here would replace one that nobody has seen
            sayError(error, "The saved mask was not loaded. Click the image in the list to try again. ");
            this.#state.set({ loading: false });
            return;
        }
        // the image is there: it can be drawn on by hand
        const ticket = this.#ticket;
        this.#show({ mask: new Mask(size.width, size.height), version: NONE }, "none");
        sayError(error, "No prediction. ");
        if (statusOf(error) === 503) {
            setTimeout(() => {
                if (ticket === this.#ticket && this.#parts.editor.untouched && !this.#parts.tools.drawsPolygon) {
                    this.open(id);
                }
            }, RETRY);
        }
    }
}

/**
 * @param {unknown} error
 * @returns {number|null} the status of HTTP that a call failed with
 */
const statusOf = (error) => (error instanceof CallError ? error.status : null);
