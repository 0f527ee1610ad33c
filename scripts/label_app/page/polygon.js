// SPDX-License-Identifier: Apache-2.0
/** The polygon that is being drawn: its corners, and how it looks before it is filled. */

const NEAR = 10; // CSS pixels around the first corner that close the polygon

/** @typedef {import("./mask.js").Point} Point */

/** Corners are whole numbers: corners of pixels. */
export class Polygon {
    #view;
    #shape;
    #start;
    #pointer = /** @type {Point|null} */ (null); // on the screen
    /** @type {Point[]} */
    corners = [];

    /**
     * @param {import("./view.js").View} view
     * @param {SVGElement} shape a polyline
     * @param {SVGElement} start a circle that marks the first corner
     */
    constructor(view, shape, start) {
        this.#view = view;
        this.#shape = shape;
        this.#start = start;
    }

    get open() {
        return this.corners.length > 0;
    }

    /**
     * Add the corner of a pixel that is nearest to a place of the screen, unless it is the last one.
     *
     * @param {Point} client
     */
    add(client) {
        const place = this.#view.toImage(client);
        const corner = { x: Math.round(place.x), y: Math.round(place.y) };
        const last = this.corners.at(-1);
        if (!last || last.x !== corner.x || last.y !== corner.y) {
            this.corners.push(corner);
        }
        this.draw(client);
    }

    /**
     * Whether a place of the screen is on the first corner of a polygon that can be closed.
     *
     * @param {Point} client
     */
    closes(client) {
        if (this.corners.length < 3) {
            return false;
        }
        const first = this.#view.toStage(this.corners[0]);
        const place = this.#view.toStage(this.#view.toImage(client));
        return Math.hypot(first.x - place.x, first.y - place.y) <= NEAR;
    }

    /** Remove the last corner. */
    back() {
        this.corners.pop();
        this.draw();
    }

    /** End the polygon. @returns {Point[]} its corners */
    take() {
        const corners = this.corners;
        this.corners = [];
        this.draw();
        return corners;
    }

    /** Draw the polygon, with a line to the pointer. */
    draw(client = this.#pointer) {
        this.#pointer = client;
        const places = this.corners.map((corner) => this.#view.toStage(corner));
        this.#start.setAttribute("visibility", this.open ? "visible" : "hidden");
        if (this.open) {
            this.#start.setAttribute("cx", String(places[0].x));
            this.#start.setAttribute("cy", String(places[0].y));
            this.#start.classList.toggle("closing", client !== null && this.closes(client));
            if (client) {
                places.push(this.#view.toStage(this.#view.toImage(client)));
            }
        }
        this.#shape.setAttribute("points", places.map(({ x, y }) => `${x},${y}`).join(" "));
    }
}
