// SPDX-License-Identifier: Apache-2.0
/** The open image from opening to saving: loads it, keeps its draft, saves it, finds the next one. */

import { deleteLabel, nextImage, putLabel } from "./api.js";
import { Mask } from "./mask.js";
import { say, sayError } from "./status.js";

const RETRY = 2000; // milliseconds until a busy server is asked for a prediction again
const AHEAD = 500; // milliseconds that an image stays open before the next one is loaded
const SKIPPED = `skipped ${location.pathname}`;
const NONE = "none"; // the version if there is no label

const sentences = (...parts) => parts.filter(Boolean).join(" ");
const nextFrame = () => new Promise((resolve) => requestAnimationFrame(resolve));

/** Events: `open` when an image or its mask is shown or cannot be; `labels` when the server has other labels. */
export class Workspace extends EventTarget {
    #parts;
    #stage;
    #notice;
    #canvas;
    #ticket = 0; // number of the latest call of `open`; earlier calls stop when it has changed
    #saving = null;
    #ahead = 0; // timer of `prefetch`
    #fingerprint = null;
    #drawnOn = null; // version of the open image's file
    #version = NONE; // of the label that the open mask is to replace
    #visited = []; // ids of the images that were open before
    #skipped = new Set(JSON.parse(sessionStorage.getItem(SKIPPED) ?? "[]"));
    id = null;
    size = null;
    note = ""; // how the display differs from the network's input
    foundNothing = false; // the prediction that is shown marks nothing
    classes = []; // names of the classes
    drafts = null; // set when the browser's database is open

    /**
     * @param {HTMLElement} stage
     * @param {{view: object, editor: object, tools: object, list: object, loader: object}} parts
     */
    constructor(stage, parts) {
        super();
        this.#parts = parts;
        this.#stage = stage;
        this.#notice = stage.querySelector("#notice");
        this.#canvas = stage.querySelector("#image");
        parts.editor.addEventListener("step", () => this.#keepDraft());
    }

    /** Mark the skipped images in the list, once it is there. */
    markSkipped() {
        this.#skipped.forEach((id) => this.#parts.list.mark(id, { skipped: true }));
    }

    /**
     * Show an image with its draft, its saved label or else its prediction.
     *
     * @param {string} id
     * @param {{news?: string, back?: boolean}} [how] news: a sentence that stays in the status bar, defaults to none;
     *     back: `back` does not return to the image that is left, defaults to false
     */
    async open(id, { news = "", back = false } = {}) {
        const { editor, tools, list, loader } = this.#parts;
        tools.closePolygon();
        await this.#saving; // what is being saved belongs to the image that is left
        const ticket = ++this.#ticket;
        const started = performance.now();
        tools.cancel();
        if (!back && this.id !== null && this.id !== id) {
            this.#visited.push(this.id);
        }
        loader.giveUpAllBut(id);
        clearTimeout(this.#ahead);
        this.#reset(id);
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
                this.#version = draft.version;
                this.#show(draft.mask, "draft", true);
                say(sentences(news, "Your strokes that were not saved are back."));
            } else {
                const { mask, version } = await this.#fitting(asked, ticket);
                this.#version = version;
                this.#show(mask, saved ? "label" : "prediction");
                say(sentences(news, this.foundNothing ? `${this.nothing}.` : ""), news ? "ok" : "info");
            }
        } catch (error) {
            if (ticket === this.#ticket && saved && error.status === 404) {
                list.update(id, { state: "new" }); // the file of the label was removed by hand
                this.dispatchEvent(new Event("labels"));
                await this.open(id, { news: `The saved mask of ${id} is gone.` });
            } else if (ticket === this.#ticket) {
                this.#fail(error, saved);
            }
        } finally {
            clearTimeout(slow);
        }
        if (ticket === this.#ticket && editor.mask) {
            await nextFrame();
            await nextFrame();
            this.#stage.dataset.shownMs = Math.round(performance.now() - started);
        }
    }

    /** @returns {Promise<boolean>} whether the server has the mask now */
    async save() {
        if (this.#parts.editor.mask === null) {
            return false;
        }
        this.#saving ??= this.#save().finally(() => (this.#saving = null));
        return this.#saving;
    }

    /** Open the most uncertain image that is neither labelled, nor skipped, nor this one; `news` as of `open`. */
    async next(news = "") {
        const here = this.id;
        try {
            const id = await nextImage(this.#passed());
            if (id === null) {
                say(sentences(news, this.#allDone()));
            } else if (here === this.id) {
                await this.open(id, { news });
            }
        } catch (error) {
            sayError(error, "No next image. ");
        }
    }

    /** Whether `back` has somewhere to go. */
    get canGoBack() {
        return this.#visited.length > 0;
    }

    /** Open the image that was open before this one. */
    async back() {
        const id = this.#visited.pop();
        if (id !== undefined) {
            await this.open(id, { back: true });
        }
    }

    /** Withdraw the saved label, and show the prediction again. */
    async withdraw() {
        const { list, tools } = this.#parts;
        const id = this.id;
        if (id === null || list.state(id) !== "corrected") {
            return;
        }
        tools.closePolygon();
        await this.#saving;
        say("Withdrawing …", "busy");
        try {
            const { file } = await deleteLabel(id);
            list.update(id, { state: "new" });
            this.dispatchEvent(new Event("labels"));
            if (id === this.id) {
                const news = `${id} is not corrected any more. Its mask was moved to ${file} in the work folder.`;
                await this.open(id, { news });
            }
        } catch (error) {
            sayError(error, "Not withdrawn. ");
        }
    }

    /** A sentence, without its full stop, about a prediction that marks nothing. */
    get nothing() {
        return `no ${this.classes.join(" and no ")} found`.replace(/^n/, "N");
    }

    /** Do not offer this image again in this window. */
    async skip() {
        if (this.id !== null) {
            this.#skipped.add(this.id);
            sessionStorage.setItem(SKIPPED, JSON.stringify([...this.#skipped]));
            this.#parts.list.mark(this.id, { skipped: true });
            await this.next();
        }
    }

    /** Replace what is drawn by the prediction. */
    async usePrediction() {
        const { editor } = this.#parts;
        const ticket = this.#ticket;
        if (editor.mask === null) {
            return;
        }
        say("Asking for the prediction …", "busy");
        try {
            const { mask } = await this.#fitting(this.#prediction(this.id), ticket);
            editor.replace(mask);
            say("This is the prediction. Undo brings back what was here.");
        } catch (error) {
            if (ticket === this.#ticket) {
                sayError(error, "No prediction. ");
            }
        }
    }

    /** Remove the whole mask. */
    clear() {
        const { editor } = this.#parts;
        if (editor.mask) {
            editor.replace(new Mask(editor.mask.width, editor.mask.height));
        }
    }

    /** Show a message in place of an image. */
    notify(sentence) {
        this.#notice.textContent = sentence;
        this.#notice.hidden = false;
    }

    #allDone() {
        const unsaved = this.#parts.list.drafts;
        const but = unsaved.length ? `, but strokes are not saved on ${unsaved.join(", ")}` : "";
        return `No other image is left: all others are corrected or skipped${but}.`;
    }

    #passed() {
        return [...new Set([...this.#skipped, this.id])].filter((id) => id !== null);
    }

    #reset(id) {
        this.id = id;
        this.size = null;
        this.note = "";
        this.foundNothing = false;
        this.#fingerprint = null;
        this.#version = NONE;
        delete this.#stage.dataset.shownMs;
        this.#stage.dataset.mask = "";
        this.#stage.dataset.image = id;
        this.#stage.classList.add("loading");
        this.#notice.hidden = true;
        this.#parts.tools.enabled = false;
        this.#parts.editor.load(null);
        this.dispatchEvent(new Event("open"));
    }

    #showImage({ bitmap, fingerprint, note, version }) {
        const { width, height } = bitmap;
        this.size = { width, height };
        this.note = note;
        this.#fingerprint = fingerprint;
        this.#drawnOn = version;
        this.#canvas.width = width;
        this.#canvas.height = height;
        this.#canvas.getContext("2d").drawImage(bitmap, 0, 0);
        this.#canvas.parentElement.hidden = false;
        this.#stage.classList.remove("loading");
        this.#parts.view.setSize(width, height);
    }

    async #prediction(id) {
        return { mask: await this.#parts.loader.prediction(id), version: NONE };
    }

    /** Wait for a mask and its version. Throws if another image was opened meanwhile, or if the sizes differ. */
    async #fitting(promise, ticket) {
        const { mask, version } = await promise;
        if (ticket !== this.#ticket) {
            throw new DOMException("another image was opened", "AbortError");
        }
        const { width, height } = this.size;
        if (mask.width !== width || mask.height !== height) {
            throw new Error(`Its mask has ${mask.width} x ${mask.height} pixels, the image ${width} x ${height}.`);
        }
        return { mask, version };
    }

    /** @param {"draft"|"label"|"prediction"|"none"} source */
    #show(mask, source, unsaved = false) {
        const { editor, tools, list } = this.#parts;
        if (source === "prediction" && list.state(this.id) === "new") {
            list.update(this.id, { state: "predicted" });
        }
        this.foundNothing = source === "prediction" && mask.empty;
        editor.load(mask, unsaved);
        tools.enabled = true;
        this.#stage.dataset.mask = source;
        this.dispatchEvent(new Event("open"));
    }

    #fail(error, saved) {
        if (error.name === "AbortError") {
            return;
        }
        if (this.size === null) {
            this.#canvas.parentElement.hidden = true;
            this.#stage.classList.remove("loading");
            this.notify(error.message);
            say(error.message, "error");
            this.dispatchEvent(new Event("open"));
            return;
        }
        if (saved) {
            // a mask drawn here would replace one that nobody has seen
            sayError(error, "The saved mask was not loaded. Click the image in the list to try again. ");
            this.dispatchEvent(new Event("open"));
            return;
        }
        // the image is there: it can be drawn on by hand
        const ticket = this.#ticket;
        this.#show(new Mask(this.size.width, this.size.height), "none");
        sayError(error, "No prediction. ");
        if (error.status === 503) {
            setTimeout(() => {
                if (ticket === this.#ticket && this.#parts.editor.untouched && !this.#parts.tools.drawsPolygon) {
                    this.open(this.id);
                }
            }, RETRY);
        }
    }

    async #save() {
        const { editor, list, tools } = this.#parts;
        tools.closePolygon();
        const { mask, saved } = editor.snapshot();
        const id = this.id;
        say("Saving …", "busy");
        try {
            this.#version = (await putLabel(id, mask, this.#version, this.#drawnOn)).version;
            saved();
            list.update(id, { state: "corrected" });
            this.#stage.dataset.mask = "label";
            this.foundNothing = false;
            say(`Saved ${id}.`, "ok");
            this.dispatchEvent(new Event("labels"));
            this.dispatchEvent(new Event("open"));
            return true;
        } catch (error) {
            const elsewhere = error.status === 409;
            if (elsewhere) {
                this.#version = error.version ?? NONE; // the user knows of this version now
                this.dispatchEvent(new Event("labels"));
            }
            if (error.status === 412) {
                this.#parts.loader.forget(id);
            }
            const again = elsewhere ? "Save again to replace that mask with yours." : "";
            say(sentences("Not saved. Your strokes are kept.", error.message, again), "error");
            return false;
        }
    }

    async #keepDraft() {
        const { editor, list } = this.#parts;
        if (editor.mask === null || this.#fingerprint === null) {
            return;
        }
        list.mark(this.id, { draft: editor.unsaved });
        try {
            await this.drafts?.set(this.id, this.#fingerprint, editor.unsaved ? editor.mask : null, this.#version);
        } catch {
            say("The browser's storage is full: it does not keep unsaved strokes. Save before you leave.", "error");
        }
    }

    /** Load the image that will probably be next, unless another is opened soon. */
    prefetch() {
        clearTimeout(this.#ahead);
        this.#ahead = setTimeout(() => this.#loadAhead(), AHEAD);
    }

    async #loadAhead() {
        try {
            const id = await nextImage(this.#passed());
            if (id !== null) {
                this.#parts.loader.ahead(id);
            }
        } catch {
            // an error shows when the image is opened
        }
    }
}
