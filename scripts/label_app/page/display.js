// SPDX-License-Identifier: Apache-2.0
/** Shows on the page what the state, the editor and the tools say. */

import { buttonOf, find, part } from "./dom.js";
import { union } from "./mask.js";

const SETTINGS = "label settings";
const OUTLINE = 2; // width in screen pixels
export const TOOLS = /** @type {const} */ (["brush", "eraser", "polygon", "curve", "pan"]);

/** What the browser keeps of how the user works. */
export const settings = { size: 15, opacity: 45, outline: false, ...JSON.parse(localStorage.getItem(SETTINGS) ?? "{}") };

/** @param {Partial<typeof settings>} changes */
function keepSettings(changes) {
    Object.assign(settings, changes);
    localStorage.setItem(SETTINGS, JSON.stringify(settings));
}

/**
 * @param {string} command
 * @param {boolean} pressed
 */
const press = (command, pressed) => buttonOf(command).setAttribute("aria-pressed", String(pressed));

/** Everything that is displayed beside the list of images and the training. */
export class Display {
    #state;
    #parts;
    #stage = part("#stage");
    #dirty = /** @type {import("./mask.js").Rect|null} */ (null); // what the next frame paints

    /**
     * @param {import("./state.js").State} state
     * @param {{view: import("./view.js").View, overlay: import("./overlay.js").Overlay,
     *     editor: import("./editor.js").Editor, tools: import("./tools.js").Tools,
     *     list: import("./images.js").ImageList, order: import("./order.js").Order}} parts
     */
    constructor(state, parts) {
        this.#state = state;
        this.#parts = parts;
        const { view, editor, tools } = parts;
        state.addEventListener("change", () => this.showAll());
        editor.addEventListener("step", () => this.#showEdited());
        editor.addEventListener("paint", (event) => {
            this.#paint(/** @type {CustomEvent<import("./mask.js").Rect>} */ (event).detail);
            state.hide(false); // a hidden mask must not be changed
        });
        view.addEventListener("change", () => {
            part("#zoom").textContent = `${Math.round(view.zoom * 100)} %`;
            this.#fitOutline();
        });
        tools.addEventListener("change", () => this.#showTools());
        tools.addEventListener("hover", (event) => {
            this.#showPlace(/** @type {CustomEvent<import("./mask.js").Point|null>} */ (event).detail);
        });
    }

    showAll() {
        this.#showMask();
        this.#showImage();
    }

    /** @param {number} percent */
    setOpacity(percent) {
        keepSettings({ opacity: Math.min(Math.max(percent, 0), 100) });
        this.#state.hide(false);
        this.#showMask();
    }

    switchOutline() {
        keepSettings({ outline: !settings.outline });
        this.#showMask();
    }

    #showMask() {
        // thin lines need more opacity
        const opacity = Math.min((settings.opacity / 100) * (settings.outline ? 2 : 1), 1);
        part("#mask").style.opacity = String(this.#state.hidden ? 0 : opacity);
        find("#opacity", HTMLInputElement).value = String(settings.opacity);
        part("#opacity_shown").textContent = `${settings.opacity} %`;
        press("outline", settings.outline);
        press("hide", this.#state.hidden);
        this.#fitOutline();
    }

    #showImage() {
        const { editor, list, order, tools } = this.#parts;
        const { id, size, note, foundNothing, loading } = this.#state.open;
        const state = (id !== null && list.state(id)) || "";
        const confidence = id === null ? null : list.confidence(id);
        const carried = confidence === null || editor.unsaved ? "" : `carried ${confidence.toFixed(2)}`;
        const unsaved = editor.unsaved ? "unsaved strokes" : "";
        const nothing = foundNothing ? this.#state.nothing.toLowerCase() : "";
        const shape = size ? `${size.width} × ${size.height}` : "";
        part("#open_note").textContent = note;
        part("#open_note").hidden = note === "";
        part("#open_name").textContent = id ?? "–";
        part("#open_name").title = id ?? "";
        part("#open_state").textContent = [shape, state, carried, nothing, unsaved].filter(Boolean).join(" · ") || "\u00a0";
        this.#stage.ariaBusy = String(loading);
        this.#stage.classList.toggle("loading", loading && size === null);
        this.#stage.classList.toggle("editable", tools.enabled);
        const disabled = editor.mask === null;
        for (const command of ["save", "save_next", "predict", "clear"]) {
            buttonOf(command).disabled = disabled;
        }
        buttonOf("carry").disabled = state !== "corrected" || editor.unsaved;
        buttonOf("skip").disabled = id === null;
        buttonOf("withdraw").disabled = state !== "corrected" || !this.#state.withdraws;
        buttonOf("back").disabled = !order.canGoBack;
        buttonOf("undo").disabled = !editor.canUndo;
        buttonOf("redo").disabled = !editor.canRedo;
    }

    #showEdited() {
        const { editor, overlay } = this.#parts;
        if (overlay.mask !== editor.mask) {
            overlay.setMask(editor.mask);
        }
        this.#showImage();
    }

    #showTools() {
        const { tools } = this.#parts;
        TOOLS.forEach((tool) => press(tool, tools.tool === tool));
        this.#stage.dataset.tool = tools.shown;
        find("#size", HTMLInputElement).value = String(tools.size);
        part("#size_shown").textContent = `${tools.size} px`;
        keepSettings({ size: tools.size });
    }

    /** @param {import("./mask.js").Point|null} place */
    #showPlace(place) {
        const { size } = this.#state.open;
        const inside = place && size && place.x >= 0 && place.y >= 0 && place.x < size.width && place.y < size.height;
        part("#place").textContent = inside ? `${place.x}, ${place.y}` : "";
    }

    /** Keep outlines equally wide on the screen at any zoom. */
    #fitOutline() {
        const { overlay, view } = this.#parts;
        const width = settings.outline ? Math.min(Math.max(Math.round(OUTLINE / view.zoom), 1), 12) : 0;
        if (width !== overlay.outline) {
            overlay.outline = width;
            if (overlay.mask) {
                this.#paint(overlay.mask.rect);
            }
        }
    }

    /**
     * Collect all changes, and paint them together before the next frame.
     *
     * @param {import("./mask.js").Rect} rect
     */
    #paint(rect) {
        if (!this.#dirty) {
            requestAnimationFrame(() => {
                if (this.#dirty) {
                    this.#parts.overlay.paint(this.#dirty);
                }
                this.#dirty = null;
            });
        }
        this.#dirty = union(this.#dirty, rect);
    }
}
