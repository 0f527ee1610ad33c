// SPDX-License-Identifier: Apache-2.0
/** What the pointer does on the image: mouse, pen or fingers draw, erase, outline and pan. */

import { between, outlines } from "./curve.js";
import { find } from "./dom.js";
import { Polygon } from "./polygon.js";
import { say } from "./status.js";

const PEN_ERASER = 32; // bit of PointerEvent.buttons
export const LARGEST_BRUSH = 201;

/** @typedef {import("./mask.js").Point} Point */
/** @typedef {{move: (event: PointerEvent) => void, end: () => void}} Action of a pressed pointer */
/** @typedef {typeof import("./display.js").TOOLS[number]} Tool */

const placeOf = (/** @type {MouseEvent} */ { clientX, clientY }) => ({ x: clientX, y: clientY });
const pixel = (/** @type {Point} */ { x, y }) => ({ x: Math.floor(x), y: Math.floor(y) });
const nearestCorner = (/** @type {Point} */ { x, y }) => ({ x: Math.round(x), y: Math.round(y) });

/** Event `change`: another tool, class or size. Event `hover` (detail: place in the image or null). */
export class Tools extends EventTarget {
    #stage;
    #view;
    #editor;
    #cursor;
    #action = /** @type {Action|null} */ (null);
    /** @type {Map<number, Point>} */
    #fingers = new Map();
    #hovered = /** @type {Point|null} */ (null);
    #handHeld = false;
    polygon;
    tool = /** @type {Tool} */ ("brush");
    size = 15; // of the brush, pixels of the image, odd
    value = 1; // class that is drawn
    enabled = false;

    /**
     * @param {HTMLElement} stage
     * @param {import("./view.js").View} view
     * @param {import("./editor.js").Editor} editor
     */
    constructor(stage, view, editor) {
        super();
        this.#stage = stage;
        this.#view = view;
        this.#editor = editor;
        this.#cursor = find("#cursor", SVGElement);
        this.polygon = new Polygon(view, find("#outline", SVGElement), find("#first_corner", SVGElement));
        view.addEventListener("change", () => {
            this.polygon.draw();
            this.#drawCursor();
        });
        stage.addEventListener("pointerdown", (event) => this.#down(event));
        stage.addEventListener("pointermove", (event) => this.#move(event));
        stage.addEventListener("pointerup", (event) => this.#up(event, true));
        stage.addEventListener("pointercancel", (event) => this.#up(event, false));
        stage.addEventListener("pointerleave", () => this.#hover(null));
        stage.addEventListener("dblclick", () => this.closePolygon());
        stage.addEventListener("contextmenu", (event) => event.preventDefault());
        stage.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    }

    /**
     * Change tool, size or value.
     *
     * @param {{tool?: Tool, size?: number, value?: number}} changes
     */
    set(changes) {
        Object.assign(this, changes);
        this.size = Math.min(Math.max(this.size, 1), LARGEST_BRUSH) | 1;
        if (this.tool !== "polygon") {
            this.closePolygon(); // the polygon is filled, not lost; undo removes it
        }
        this.#drawCursor();
        this.dispatchEvent(new Event("change"));
    }

    /** The tool that the pointer has now. */
    get shown() {
        return this.#handHeld ? "pan" : this.tool;
    }

    /**
     * Pan as long as a key is held.
     *
     * @param {boolean} held
     */
    holdHand(held) {
        if (held !== this.#handHeld) {
            this.#handHeld = held;
            this.#drawCursor();
            this.dispatchEvent(new Event("change"));
        }
    }

    /** Whether a polygon is being drawn that encloses something. */
    get drawsPolygon() {
        return this.polygon.corners.length > 2;
    }

    /** Fill the polygon that is being drawn, or erase inside it. @returns {boolean} whether there was one */
    closePolygon(erase = false) {
        if (!this.polygon.open) {
            return false;
        }
        const corners = this.polygon.take();
        if (corners.length > 2) {
            this.#editor.polygon(corners, erase ? 0 : this.value);
        }
        return true;
    }

    /** Cancel what is being drawn. */
    cancel() {
        this.#action = null;
        this.#editor.cancel();
        this.polygon.take();
    }

    /** @param {PointerEvent} event */
    #down(event) {
        if (document.activeElement instanceof HTMLElement) {
            document.activeElement.blur(); // keys are for the image now
        }
        event.preventDefault();
        if (event.isTrusted) {
            this.#stage.setPointerCapture(event.pointerId);
        }
        if (event.pointerType === "touch") {
            this.#fingers.set(event.pointerId, placeOf(event));
            if (this.#fingers.size === 2) {
                this.#editor.cancel();
                this.#action = { move: () => {}, end: () => {} };
                return;
            }
        }
        if (this.#action) {
            return; // another button of the same stroke
        }
        if (event.button === 1 || this.#handHeld || this.tool === "pan") {
            this.#action = this.#pan(event);
        } else if (this.enabled && this.tool === "polygon" && event.button === 0) {
            this.#action = this.#corner(event);
        } else if (this.enabled && this.tool === "curve") {
            this.#action = this.#curve(event);
        } else if (this.enabled && this.tool !== "polygon") {
            this.#action = this.#stroke(event);
        }
        this.#action?.move(event);
    }

    /** @param {PointerEvent} event */
    #move(event) {
        const finger = this.#fingers.get(event.pointerId);
        if (finger && this.#fingers.size === 2) {
            this.#pinch(event, finger);
            return;
        }
        this.#hover(event);
        if (this.#action) {
            this.#action.move(event);
        } else if (this.polygon.open) {
            this.polygon.draw(placeOf(event));
        }
    }

    /**
     * @param {PointerEvent} event
     * @param {boolean} finished
     */
    #up(event, finished) {
        this.#fingers.delete(event.pointerId);
        if (this.#action && (event.buttons === 0 || !finished) && this.#fingers.size === 0) {
            if (finished) {
                const { end } = this.#action;
                this.#action = null;
                end();
            } else {
                this.cancel();
            }
        }
    }

    /**
     * What a press draws: the class, or 0, which erases.
     *
     * @param {PointerEvent} first
     */
    #valueOf(first) {
        const erase = this.tool === "eraser" || first.button === 2 || Boolean(first.buttons & PEN_ERASER);
        return erase ? 0 : this.value;
    }

    /**
     * Replace a part of an outline by a curve from the press to the pointer.
     *
     * @param {PointerEvent} first
     * @returns {Action|null}
     */
    #curve(first) {
        const { mask } = this.#editor;
        const corner = (/** @type {PointerEvent} */ event) => nearestCorner(this.#view.toImage(placeOf(event)));
        const [start, erase] = [corner(first), this.#valueOf(first) === 0];
        const found = mask ? outlines(mask, this.value) : [];
        if (found.length === 0) {
            say("There is no outline yet. Mark the inside with the brush first, roughly.");
            return null;
        }
        return {
            move: (event) => this.#editor.exchange(between(found, start, corner(event)), this.value, erase),
            end: () => this.#editor.finish(),
        };
    }

    /**
     * @param {PointerEvent} first
     * @returns {Action}
     */
    #stroke(first) {
        const value = this.#valueOf(first);
        let last = /** @type {Point|null} */ (null);
        return {
            move: (event) => {
                const parts = event.getCoalescedEvents?.() ?? [];
                for (const part of parts.length ? parts : [event]) {
                    const place = pixel(this.#view.toImage(placeOf(part)));
                    if (!last || place.x !== last.x || place.y !== last.y) {
                        this.#editor.line(last ?? place, place, this.size, value);
                        last = place;
                    }
                }
            },
            end: () => this.#editor.finish(),
        };
    }

    /**
     * @param {PointerEvent} first
     * @returns {Action}
     */
    #pan(first) {
        let last = placeOf(first);
        this.#stage.classList.add("panning");
        return {
            move: (event) => {
                this.#view.panBy(event.clientX - last.x, event.clientY - last.y);
                last = placeOf(event);
            },
            end: () => this.#stage.classList.remove("panning"),
        };
    }

    /**
     * Add a corner at a click, or corners along a drag.
     *
     * @param {PointerEvent} first
     * @returns {Action|null}
     */
    #corner(first) {
        if (this.polygon.closes(placeOf(first))) {
            this.closePolygon(first.shiftKey);
            return null;
        }
        return {
            move: (event) => this.polygon.add(placeOf(event)),
            end: () => {},
        };
    }

    /**
     * @param {PointerEvent} event
     * @param {Point} finger where it was
     */
    #pinch(event, finger) {
        const moved = placeOf(event);
        const [[, other]] = [...this.#fingers].filter(([id]) => id !== event.pointerId);
        const before = Math.hypot(finger.x - other.x, finger.y - other.y);
        const after = Math.hypot(moved.x - other.x, moved.y - other.y);
        this.#view.panBy((moved.x - finger.x) / 2, (moved.y - finger.y) / 2);
        if (before > 0 && after > 0) {
            this.#view.zoomBy(after / before, { x: (moved.x + other.x) / 2, y: (moved.y + other.y) / 2 });
        }
        this.#fingers.set(event.pointerId, moved);
    }

    /** @param {WheelEvent} event */
    #wheel(event) {
        event.preventDefault();
        const pixels = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 33 : 1);
        // trackpads send a pinch as small wheel steps with ctrlKey
        const factor = Math.exp(-pixels * (event.ctrlKey ? 0.01 : 0.0015));
        this.#view.zoomBy(factor, placeOf(event));
        this.#hover(event);
    }

    /** @param {MouseEvent|null} event */
    #hover(event) {
        this.#hovered = event && placeOf(event);
        this.#drawCursor();
        const place = event && pixel(this.#view.toImage(placeOf(event)));
        this.dispatchEvent(new CustomEvent("hover", { detail: place }));
    }

    /** The ring of the brush. */
    #drawCursor() {
        const brush = this.enabled && !this.#handHeld && (this.tool === "brush" || this.tool === "eraser");
        this.#cursor.setAttribute("visibility", brush && this.#hovered ? "visible" : "hidden");
        if (brush && this.#hovered) {
            const { x, y } = pixel(this.#view.toImage(this.#hovered));
            const middle = this.#view.toStage({ x: x + 0.5, y: y + 0.5 });
            this.#cursor.setAttribute("cx", String(middle.x));
            this.#cursor.setAttribute("cy", String(middle.y));
            this.#cursor.setAttribute("r", String(Math.max((this.size / 2) * this.#view.scale, 1)));
        }
    }
}
