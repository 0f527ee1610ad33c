// SPDX-License-Identifier: Apache-2.0
/** The list of images with their states, filtered and counted. */

/** Event `choose` (detail: id): a row was clicked. */
export class ImageList extends EventTarget {
    #list;
    #filters;
    #search;
    #rows = new Map(); // id -> {image, element, draft, skipped}
    #current = null;
    #shown = "all";

    /** @param {HTMLElement} root holds the filters, the search field and the list */
    constructor(root) {
        super();
        this.#list = root.querySelector("#images");
        this.#filters = [...root.querySelectorAll("[data-filter]")];
        this.#search = root.querySelector("#search");
        this.#list.addEventListener("click", (event) => {
            const row = event.target.closest("[data-id]");
            if (row) {
                this.dispatchEvent(new CustomEvent("choose", { detail: row.dataset.id }));
            }
        });
        this.#search.addEventListener("input", () => this.#filter());
        this.#filters.forEach((button) =>
            button.addEventListener("click", () => {
                this.#shown = button.dataset.filter;
                this.#filter();
            }),
        );
    }

    /** Take the states from the server; existing rows are kept. */
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

    /** Change an image's `state`. */
    update(id, changes) {
        const row = this.#rows.get(id);
        if (row) {
            Object.assign(row.image, changes);
            this.#write(row);
            this.#filter();
        }
    }

    /** Mark an image as having unsaved strokes (`draft`) or as skipped. */
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

    /** @returns {"new"|"predicted"|"corrected"|undefined} undefined: no such image */
    state(id) {
        return this.#rows.get(id)?.image.state;
    }

    /** Highlight the row of the open image. */
    setCurrent(id) {
        const before = this.#rows.get(this.#current);
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

    /** @returns {string|undefined} the id of the row `step` shown rows below the current one */
    neighbour(step) {
        const shown = [...this.#rows.keys()].filter((id) => this.#matches(id) || id === this.#current);
        const at = shown.indexOf(this.#current);
        return at < 0 ? shown[0] : shown[at + step];
    }

    #element(id) {
        const element = document.createElement("li");
        element.role = "option";
        element.id = `image_${this.#rows.size}_${Date.now()}`;
        element.dataset.id = id;
        element.setAttribute("aria-selected", "false");
        for (const part of ["dot", "name", "marks"]) {
            const span = document.createElement("span");
            span.className = part;
            element.append(span);
        }
        element.children[1].textContent = id;
        return element;
    }

    #write({ image, element, draft, skipped }) {
        element.dataset.state = image.state;
        element.dataset.draft = String(draft);
        element.classList.toggle("skipped", skipped);
        const heldOut = image.held_out && image.state === "corrected";
        element.children[2].textContent = draft ? "unsaved" : heldOut ? "held out" : skipped ? "skipped" : "";
        const uncertainty = image.uncertainty === null ? "" : `, uncertainty ${image.uncertainty.toFixed(3)}`;
        const kept = heldOut ? ", held out: training never learns from it" : "";
        const marks = `${kept}${draft ? ", unsaved strokes" : ""}${skipped ? ", skipped" : ""}`;
        element.title = `${image.id}: ${image.state}${uncertainty}${marks}`;
        element.setAttribute("aria-label", element.title);
    }

    #matches(id) {
        const { image } = this.#rows.get(id);
        const words = this.#search.value.trim().toLowerCase();
        return (this.#shown === "all" || image.state === this.#shown) && id.toLowerCase().includes(words);
    }

    #filter() {
        const counts = { all: this.#rows.size, new: 0, predicted: 0, corrected: 0 };
        for (const [id, { image, element }] of this.#rows) {
            counts[image.state]++;
            // the open image is listed even if the filter excludes its state
            element.hidden = !this.#matches(id) && id !== this.#current;
        }
        for (const button of this.#filters) {
            button.querySelector(".count").textContent = counts[button.dataset.filter];
            button.setAttribute("aria-pressed", String(button.dataset.filter === this.#shown));
        }
    }
}
