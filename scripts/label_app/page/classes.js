// SPDX-License-Identifier: Apache-2.0
/** The choice of the class to draw: names, colours, keys 1 to 9. */

/** Event `choose` (detail: value): another class was chosen. */
export class ClassChoice extends EventTarget {
    #root;

    /** @param {HTMLElement} root */
    constructor(root) {
        super();
        this.#root = root;
    }

    /** @param {{value: number, name: string, color: string}[]} classes */
    set(classes) {
        this.#root.replaceChildren(
            ...classes.map(({ value, name, color }) => {
                const label = document.createElement("label");
                const input = document.createElement("input");
                Object.assign(input, { type: "radio", name: "class", value: String(value) });
                input.addEventListener("change", () => this.#choose(value));
                const swatch = document.createElement("span");
                swatch.className = "swatch";
                swatch.style.backgroundColor = color;
                const text = document.createElement("span");
                text.className = "name";
                text.textContent = name;
                label.append(input, swatch, text);
                label.title = name;
                if (value <= 9) {
                    const key = document.createElement("kbd");
                    key.textContent = String(value);
                    label.title = `${name} (${value})`;
                    label.append(key);
                }
                return label;
            }),
        );
        classes.slice(0, 1).forEach(({ value }) => this.choose(value));
    }

    /**
     * Choose by value; unknown values change nothing.
     *
     * @param {number} value
     */
    choose(value) {
        const input = this.#root.querySelector(`input[value="${value}"]`);
        if (input instanceof HTMLInputElement) {
            input.checked = true;
            this.#choose(value);
        }
    }

    /** @param {number} value */
    #choose(value) {
        this.dispatchEvent(new CustomEvent("choose", { detail: value }));
    }
}
