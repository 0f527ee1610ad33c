// SPDX-License-Identifier: Apache-2.0
/** Which image comes next, which was before, and which are skipped. */

import { nextImage } from "./api.js";
import { say, sayError, sentences } from "./status.js";

const AHEAD = 500; // milliseconds that an image stays open before the next one is loaded
const SKIPPED = `skipped ${location.pathname}`;

/** The order in which images are opened. */
export class Order {
    #state;
    #parts;
    /** @type {ReturnType<typeof setTimeout>|undefined} */
    #ahead; // timer of `prefetch`
    /** @type {string[]} */
    #visited = []; // ids of the images that were open before
    /** @type {Set<string>} */
    #skipped = new Set(JSON.parse(sessionStorage.getItem(SKIPPED) ?? "[]"));

    /**
     * @param {import("./state.js").State} state
     * @param {{list: import("./images.js").ImageList, loader: import("./loader.js").Loader,
     *     opening: import("./opening.js").Opening}} parts
     */
    constructor(state, parts) {
        this.#state = state;
        this.#parts = parts;
        parts.opening.addEventListener("leave", (event) => {
            this.#visited.push(/** @type {CustomEvent<string>} */ (event).detail);
        });
    }

    /** Mark the skipped images in the list, once it is there. */
    markSkipped() {
        this.#skipped.forEach((id) => this.#parts.list.mark(id, { skipped: true }));
    }

    /** Open the most uncertain image that is neither labelled, nor skipped, nor this one; `news` as of `open`. */
    async next(news = "") {
        const here = this.#state.open.id;
        try {
            const id = await nextImage(this.#passed());
            if (id === null) {
                say(sentences(news, this.#allDone()));
            } else if (here === this.#state.open.id) {
                await this.#parts.opening.open(id, { news });
            }
        } catch (error) {
            sayError(error, "No next image. ");
        }
    }

    /** Open the image `step` rows below the open one in the list. @param {number} step */
    async neighbour(step) {
        const id = this.#parts.list.neighbour(step);
        if (id !== undefined) {
            await this.#parts.opening.open(id);
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
            await this.#parts.opening.open(id, { back: true });
        }
    }

    /** Do not offer this image again in this window. */
    async skip() {
        const { id } = this.#state.open;
        if (id !== null) {
            this.#skipped.add(id);
            sessionStorage.setItem(SKIPPED, JSON.stringify([...this.#skipped]));
            this.#parts.list.mark(id, { skipped: true });
            await this.next();
        }
    }

    /** Load the image that will probably be next, unless another is opened soon. */
    prefetch() {
        clearTimeout(this.#ahead);
        const here = this.#state.open.id;
        this.#ahead = setTimeout(() => here === this.#state.open.id && this.#loadAhead(), AHEAD);
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

    #allDone() {
        const unsaved = this.#parts.list.drafts;
        const but = unsaved.length ? `, but strokes are not saved on ${unsaved.join(", ")}` : "";
        return `No other image is left: all others are corrected or skipped${but}.`;
    }

    #passed() {
        const { id } = this.#state.open;
        return [...new Set([...this.#skipped, ...(id === null ? [] : [id])])];
    }
}
