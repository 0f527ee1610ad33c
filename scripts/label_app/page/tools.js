// SPDX-License-Identifier: Apache-2.0
/** What the pointer does on the image: mouse, pen or fingers draw, erase, outline and pan. */

import { Polygon } from "./polygon.js";

const PEN_ERASER = 32; // bit of PointerEvent.buttons
export const LARGEST_BRUSH = 201;

const pixel = ({ x, y }) => ({ x: Math.floor(x), y: Math.floor(y) });

/** Event `change`: another tool, class or size. Event `hover` (detail: place in the image or null). */
export class Tools extends EventTarget {
    #stage;
    #view;
    #editor;
    #cursor;
    #action = null; // what the pressed pointer does: {move(event), end()}
    #fingers = new Map();
    #hovered = null;
    #handHeld = false;
    polygon;
    tool = "brush";
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
        this.#cursor = stage.querySelector("#cursor");
        this.polygon = new Polygon(view, stage.querySelector("#outline"), stage.querySelector("#first_corner"));
        view.addEventListener("change", () => {
            this.polygon.draw();
            this.#drawCursor();
        });
        const on = (name, listener, options) => stage.addEventListener(name, listener, options);
        on("pointerdown", (event) => this.#down(event));
        on("pointermove", (event) => this.#move(event));
        on("pointerup", (event) => this.#up(event, true));
        on("pointercancel", (event) => this.#up(event, false));
        on("pointerleave", () => this.#hover(null));
        on("dblclick", () => this.closePolygon());
        on("contextmenu", (event) => event.preventDefault());
        on("wheel", (event) => this.#wheel(event), { passive: false });
    }

    /** Change tool, size or value. */
    set(changes) {
        Object.assign(this, changes);
        this.size = Math.min(Math.max(this.size, 1), LARGEST_BRUSH) | 1;
        if (this.tool !== "polygon") {
            this.closePolygon(); // the polygon is filled, not lost; undo removes it
        }
        this.#stage.dataset.tool = this.#handHeld ? "pan" : this.tool;
        this.#drawCursor();
        this.dispatchEvent(new Event("change"));
    }

    /** Pan as long as a key is held. */
    holdHand(held) {
        this.#handHeld = held;
        this.#stage.dataset.tool = held ? "pan" : this.tool;
        this.#drawCursor();
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

    #down(event) {
        if (document.activeElement instanceof HTMLElement) {
            document.activeElement.blur(); // keys are for the image now
        }
        event.preventDefault();
        if (event.isTrusted) {
            this.#stage.setPointerCapture(event.pointerId);
        }
        if (event.pointerType === "touch") {
            this.#fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
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
        } else if (this.enabled && this.tool !== "polygon") {
            this.#action = this.#stroke(event);
        }
        this.#action?.move(event);
    }

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
            this.polygon.draw({ x: event.clientX, y: event.clientY });
        }
    }

    #up(event, finished) {
        this.#fingers.delete(event.pointerId);
        if (this.#action && (event.buttons === 0 || !finished) && this.#fingers.size === 0) {
            const { end } = this.#action;
            this.#action = null;
            if (finished) {
                end();
            } else {
                this.cancel();
            }
        }
    }

    #stroke(first) {
        const erase = this.tool === "eraser" || first.button === 2 || Boolean(first.buttons & PEN_ERASER);
        const value = erase ? 0 : this.value;
        let last = null;
        return {
            move: (event) => {
                const parts = event.getCoalescedEvents?.() ?? [];
                for (const part of parts.length ? parts : [event]) {
                    const place = pixel(this.#view.toImage({ x: part.clientX, y: part.clientY }));
                    if (!last || place.x !== last.x || place.y !== last.y) {
                        this.#editor.line(last ?? place, place, this.size, value);
                        last = place;
                    }
                }
            },
            end: () => this.#editor.finish(),
        };
    }

    #pan(first) {
        let last = { x: first.clientX, y: first.clientY };
        this.#stage.classList.add("panning");
        return {
            move: (event) => {
                this.#view.panBy(event.clientX - last.x, event.clientY - last.y);
                last = { x: event.clientX, y: event.clientY };
            },
            end: () => this.#stage.classList.remove("panning"),
        };
    }

    /** Add a corner at a click, or corners along a drag. */
    #corner(first) {
        if (this.polygon.closes({ x: first.clientX, y: first.clientY })) {
            this.closePolygon(first.shiftKey);
            return null;
        }
        return {
            move: (event) => this.polygon.add({ x: event.clientX, y: event.clientY }),
            end: () => {},
        };
    }

    #pinch(event, finger) {
        const moved = { x: event.clientX, y: event.clientY };
        const other = [...this.#fingers].find(([id]) => id !== event.pointerId)[1];
        const before = Math.hypot(finger.x - other.x, finger.y - other.y);
        const after = Math.hypot(moved.x - other.x, moved.y - other.y);
        this.#view.panBy((moved.x - finger.x) / 2, (moved.y - finger.y) / 2);
        if (before > 0 && after > 0) {
            this.#view.zoomBy(after / before, { x: (moved.x + other.x) / 2, y: (moved.y + other.y) / 2 });
        }
        this.#fingers.set(event.pointerId, moved);
    }

    #wheel(event) {
        event.preventDefault();
        const pixels = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 33 : 1);
        // trackpads send a pinch as small wheel steps with ctrlKey
        const factor = Math.exp(-pixels * (event.ctrlKey ? 0.01 : 0.0015));
        this.#view.zoomBy(factor, { x: event.clientX, y: event.clientY });
        this.#hover(event);
    }

    #hover(event) {
        this.#hovered = event && { x: event.clientX, y: event.clientY };
        this.#drawCursor();
        const place = event && pixel(this.#view.toImage(this.#hovered));
        this.dispatchEvent(new CustomEvent("hover", { detail: place }));
    }

    /** The ring of the brush. */
    #drawCursor() {
        const brush = this.enabled && !this.#handHeld && (this.tool === "brush" || this.tool === "eraser");
        this.#cursor.setAttribute("visibility", brush && this.#hovered ? "visible" : "hidden");
        if (brush && this.#hovered) {
            const { x, y } = pixel(this.#view.toImage(this.#hovered));
            const middle = this.#view.toStage({ x: x + 0.5, y: y + 0.5 });
            this.#cursor.setAttribute("cx", middle.x);
            this.#cursor.setAttribute("cy", middle.y);
            this.#cursor.setAttribute("r", Math.max((this.size / 2) * this.#view.scale, 1));
        }
    }
}
