// SPDX-License-Identifier: Apache-2.0
/** The list of images with their states, filtered and counted. */

import { find, part } from "./dom.js";

/** @typedef {import("./api.js").ImageEntry} ImageEntry */
/** @typedef {{image: ImageEntry, element: HTMLElement, draft: boolean, skipped: boolean}} Row */

/** Event `choose` (detail: id): a row was clicked. */
export class ImageList extends EventTarget {
    #list;
    #filters;
    #search;
    /** @type {Map<string, Row>} by id */
    #rows = new Map();
    /** @type {string|null} */
    #current = null;
    #shown = "all"; // the state of the images that are listed, or "all"

    /** @param {HTMLElement} root holds the filters, the search field and the list */
    constructor(root) {
        super();
        this.#list = part("#images", root);
        this.#filters = /** @type {HTMLElement[]} */ ([...root.querySelectorAll("[data-filter]")]);
        this.#search = find("#search", HTMLInputElement, root);
        this.#list.addEventListener("click", ({ target }) => {
            const row = target instanceof Element && target.closest("[data-id]");
            if (row instanceof HTMLElement) {
                this.dispatchEvent(new CustomEvent("choose", { detail: row.dataset.id }));
            }
        });
        this.#search.addEventListener("input", () => this.#filter());
        this.#filters.forEach((button) =>
            button.addEventListener("click", () => {
                this.#shown = button.dataset.filter ?? "all";
                this.#filter();
            }),
        );
    }

    /**
     * Take the states from the server; existing rows are kept.
     *
     * @param {ImageEntry[]} images
     */
    set(images) {
        const ids = new Set(images.map(({ id }) => id));
        for (const [id, { element }] of this.#rows) {
            if (!ids.has(id)) {
                element.remove();
                this.#rows.delete(id);
            }
        }
        const added = document.createDocumentFragment();
        for (const image of images) {
            let row = this.#rows.get(image.id);
            if (!row) {
                row = { image, element: this.#element(image.id), draft: false, skipped: false };
                this.#rows.set(image.id, row);
                added.append(row.element);
            }
            row.image = image;
            this.#write(row);
        }
        this.#list.append(added);
        this.#filter();
    }

    /**
     * @param {string} id
     * @param {Partial<ImageEntry>} changes
     */
    update(id, changes) {
        const row = this.#rows.get(id);
        if (row) {
            Object.assign(row.image, changes);
            this.#write(row);
            this.#filter();
        }
    }

    /**
     * Mark an image as having unsaved strokes (`draft`) or as skipped.
     *
     * @param {string} id
     * @param {{draft?: boolean, skipped?: boolean}} marks
     */
    mark(id, marks) {
        const row = this.#rows.get(id);
        if (row) {
            Object.assign(row, marks);
            this.#write(row);
        }
    }

    /** @returns {string[]} ids of the images that have unsaved strokes */
    get drafts() {
        return [...this.#rows].filter(([, { draft }]) => draft).map(([id]) => id);
    }

    /** @returns {string|undefined} the id of the first image */
    get first() {
        return this.#rows.keys().next().value;
    }

    /**
     * @param {string} id
     * @returns {ImageEntry["state"]|undefined} undefined: no such image
     */
    state(id) {
        return this.#rows.get(id)?.image.state;
    }

    /**
     * @param {string} id
     * @returns {number|null} of the mask that was carried over to the image, as long as it is not corrected
     */
    confidence(id) {
        return this.#rows.get(id)?.image.confidence ?? null;
    }

    /**
     * Highlight the row of the open image.
     *
     * @param {string} id
     */
    setCurrent(id) {
        const before = this.#current === null ? null : this.#rows.get(this.#current);
        before?.element.setAttribute("aria-selected", "false");
        this.#current = id;
        const row = this.#rows.get(id);
        if (row) {
            row.element.hidden = false;
            row.element.setAttribute("aria-selected", "true");
            row.element.scrollIntoView({ block: "nearest" });
            this.#list.setAttribute("aria-activedescendant", row.element.id);
        }
    }

    /**
     * @param {number} step
     * @returns {string|undefined} the id of the row `step` shown rows below the current one
     */
    neighbour(step) {
        const rows = [...this.#rows].filter(([id, row]) => this.#matches(row) || id === this.#current);
        const shown = rows.map(([id]) => id);
        const at = this.#current === null ? -1 : shown.indexOf(this.#current);
        return at < 0 ? shown[0] : shown[at + step];
    }

    /** @param {string} id */
    #element(id) {
        const element = document.createElement("li");
        element.role = "option";
        element.id = `image_${this.#rows.size}_${Date.now()}`;
        element.dataset.id = id;
        element.setAttribute("aria-selected", "false");
        for (const name of ["dot", "name", "marks"]) {
            const span = document.createElement("span");
            span.className = name;
            element.append(span);
        }
        element.children[1].textContent = id;
        return element;
    }

    /** @param {Row} row */
    #write({ image, element, draft, skipped }) {
        element.dataset.state = image.state;
        element.dataset.draft = String(draft);
        element.classList.toggle("skipped", skipped);
        const heldOut = image.held_out && image.state === "corrected";
        const carried = image.confidence === null ? "" : `carried ${image.confidence.toFixed(2)}`;
        element.children[2].textContent = draft ? "unsaved" : heldOut ? "held out" : skipped ? "skipped" : carried;
        const uncertainty = image.uncertainty === null ? "" : `, uncertainty ${image.uncertainty.toFixed(3)}`;
        const kept = heldOut ? ", held out: training never learns from it" : "";
        const origin = carried && `, ${carried.replace("carried", "carried over, confidence")}`;
        const marks = `${kept}${origin}${draft ? ", unsaved strokes" : ""}${skipped ? ", skipped" : ""}`;
        element.title = `${image.id}: ${image.state}${uncertainty}${marks}`;
        element.setAttribute("aria-label", element.title);
    }

    /** @param {Row} row */
    #matches({ image }) {
        const words = this.#search.value.trim().toLowerCase();
        return (this.#shown === "all" || image.state === this.#shown) && image.id.toLowerCase().includes(words);
    }

    #filter() {
        const counts = { all: this.#rows.size, new: 0, predicted: 0, corrected: 0 };
        for (const [id, row] of this.#rows) {
            counts[row.image.state]++;
            // the open image is listed even if the filter excludes its state
            row.element.hidden = !this.#matches(row) && id !== this.#current;
        }
        for (const button of this.#filters) {
            const count = counts[/** @type {keyof typeof counts} */ (button.dataset.filter)];
            part(".count", button).textContent = String(count);
            button.setAttribute("aria-pressed", String(button.dataset.filter === this.#shown));
        }
    }
}
