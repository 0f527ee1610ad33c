// SPDX-License-Identifier: Apache-2.0
/** Dice of the held-out labels against the number of labels, one point for each training. */

const SVG = "http://www.w3.org/2000/svg";
const BOX = { width: 272, height: 132, left: 28, right: 10, top: 8, bottom: 22 };

/** @typedef {import("./api.js").PastTraining} PastTraining */
/** @typedef {PastTraining & {dice_after: number}} Compared a training whose weights were compared with labels */

/**
 * @param {Element} parent
 * @param {string} name
 * @param {Object<string, string|number>} attributes
 */
function add(parent, name, attributes, text = "") {
    const element = document.createElementNS(SVG, name);
    Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, String(value)));
    element.textContent = text;
    parent.append(element);
    return element;
}

/**
 * At most five round numbers, from 0 to the largest value or the first round number above it.
 *
 * @param {number} largest
 */
function ticks(largest) {
    const steps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000];
    const step = steps.find((each) => largest / each <= 4) ?? 10000;
    return Array.from({ length: Math.ceil(largest / step) + 1 }, (_, index) => index * step);
}

/**
 * Where the axis of Dice begins: a tenth below the smallest value.
 *
 * @param {Compared[]} points
 */
function lowest(points) {
    const values = points.flatMap(({ dice_before: before, dice_after: after }) => [before ?? after, after]);
    return values.length ? Math.max(0, Math.floor(Math.min(...values) * 10 - 0.2) / 10) : 0;
}

/**
 * The dots of a training: the Dice before it, that of its weights if they are not kept, and that of the weights in use.
 *
 * @param {Compared} training
 */
function dotsOf({ labels, held_out: heldOut, unchanged = 0, dice_before: before, dice_after: after, previous_kept }) {
    const was = before === null ? "" : `, ${before.toFixed(3)} before`;
    const title = `${labels} labels: Dice ${after.toFixed(3)}${was} (${heldOut - unchanged} compared)`;
    const refused = Boolean(previous_kept) && before !== null;
    const dots = [{ kind: "after", dice: refused ? before : after, title }];
    if (refused) {
        dots.unshift({ kind: "refused", dice: after, title });
    }
    if (before !== null) {
        dots.unshift({ kind: "before", dice: before, title });
    }
    return dots;
}

/**
 * Compute where everything of the plot is.
 *
 * @param {PastTraining[]} history
 */
export function plotOf(history) {
    const points = history.filter(
        /** @returns {training is Compared} */ (training) => training.dice_after !== null,
    );
    const numbers = ticks(Math.max(4, ...points.map(({ labels }) => labels)));
    const last = numbers[numbers.length - 1];
    const x = (/** @type {number} */ labels) => BOX.left + (labels / last) * (BOX.width - BOX.left - BOX.right);
    const low = lowest(points);
    const height = BOX.height - BOX.top - BOX.bottom;
    const y = (/** @type {number} */ dice) => BOX.height - BOX.bottom - ((dice - low) / (1 - low)) * height;
    const dots = points.flatMap((point) =>
        dotsOf(point).map(({ kind, dice, title }) => ({ kind, x: x(point.labels), y: y(dice), title })),
    );
    return {
        rows: [low, (low + 1) / 2, 1].map((dice) => ({ text: String(+dice.toFixed(2)), y: y(dice) })),
        columns: numbers.map((labels) => ({ text: String(labels), x: x(labels) })),
        dots,
    };
}

/**
 * @param {SVGSVGElement} svg drawn anew
 * @param {PastTraining[]} history
 * @returns {boolean} whether there was anything to draw
 */
export function drawPlot(svg, history) {
    const { rows, columns, dots } = plotOf(history);
    svg.replaceChildren();
    svg.setAttribute("viewBox", `0 0 ${BOX.width} ${BOX.height}`);
    for (const { text, y } of rows) {
        add(svg, "line", { class: "grid", x1: BOX.left, x2: BOX.width - BOX.right, y1: y, y2: y });
        add(svg, "text", { class: "tick", x: BOX.left - 6, y: y + 3.5, "text-anchor": "end" }, text);
    }
    for (const { text, x } of columns) {
        add(svg, "text", { class: "tick", x, y: BOX.height - 7, "text-anchor": "middle" }, text);
    }
    const inUse = dots.filter(({ kind }) => kind === "after");
    add(svg, "polyline", { class: "curve", points: inUse.map(({ x, y }) => `${x},${y}`).join(" ") });
    for (const { kind, x, y, title } of dots) {
        const dot = add(svg, "circle", { class: kind, cx: x, cy: y, r: kind === "before" ? 2.5 : 3.5 });
        add(dot, "title", {}, title);
    }
    return dots.length > 0;
}
