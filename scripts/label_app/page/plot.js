// SPDX-License-Identifier: Apache-2.0
/** Dice of the held-out labels against the number of labels, one point for each training. */

const SVG = "http://www.w3.org/2000/svg";
const BOX = { width: 272, height: 132, left: 28, right: 10, top: 8, bottom: 22 };

function add(parent, name, attributes, text) {
    const element = document.createElementNS(SVG, name);
    Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
    if (text !== undefined) {
        element.textContent = text;
    }
    parent.append(element);
    return element;
}

/** At most five round numbers, from 0 to the largest value or the first round number above it. */
function ticks(largest) {
    const steps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000];
    const step = steps.find((each) => largest / each <= 4) ?? 10000;
    return Array.from({ length: Math.ceil(largest / step) + 1 }, (_, index) => index * step);
}

/** Where the axis of Dice begins: a tenth below the smallest value. */
function lowest(points) {
    const values = points.flatMap(({ dice_before: before, dice_after: after }) => [before ?? after, after]);
    return values.length ? Math.max(0, Math.floor(Math.min(...values) * 10 - 0.2) / 10) : 0;
}

/**
 * @param {SVGSVGElement} svg drawn anew
 * @param {{labels: number, held_out: number, dice_before: number|null, dice_after: number|null}[]} history
 * @returns {boolean} whether there was anything to draw
 */
export function drawPlot(svg, history) {
    const points = history.filter(({ dice_after: dice }) => dice !== null);
    svg.replaceChildren();
    svg.setAttribute("viewBox", `0 0 ${BOX.width} ${BOX.height}`);
    svg.dataset.points = points.length;
    const numbers = ticks(Math.max(4, ...points.map(({ labels }) => labels)));
    const x = (labels) => BOX.left + (labels / numbers.at(-1)) * (BOX.width - BOX.left - BOX.right);
    const low = lowest(points);
    const y = (dice) => BOX.height - BOX.bottom - ((dice - low) / (1 - low)) * (BOX.height - BOX.top - BOX.bottom);
    for (const dice of [low, (low + 1) / 2, 1]) {
        add(svg, "line", { class: "grid", x1: BOX.left, x2: BOX.width - BOX.right, y1: y(dice), y2: y(dice) });
        add(svg, "text", { class: "tick", x: BOX.left - 6, y: y(dice) + 3.5, "text-anchor": "end" }, +dice.toFixed(2));
    }
    for (const labels of numbers) {
        add(svg, "text", { class: "tick", x: x(labels), y: BOX.height - 7, "text-anchor": "middle" }, labels);
    }
    const inUse = ({ dice_before: before, dice_after: after, previous_kept: previous }) => (previous ? before : after);
    const path = points.map((point) => `${x(point.labels)},${y(inUse(point))}`).join(" ");
    add(svg, "polyline", { class: "curve", points: path });
    for (const point of points) {
        const { labels, held_out: heldOut, unchanged = 0, dice_before: before, dice_after: after } = point;
        const dots = { before, refused: point.previous_kept ? after : null, after: inUse(point) };
        const was = before === null ? "" : `, ${before.toFixed(3)} before`;
        const title = `${labels} labels: Dice ${after.toFixed(3)}${was} (${heldOut - unchanged} compared)`;
        for (const [kind, dice] of Object.entries(dots)) {
            if (dice !== null) {
                const radius = kind === "before" ? 2.5 : 3.5;
                add(add(svg, "circle", { class: kind, cx: x(labels), cy: y(dice), r: radius }), "title", {}, title);
            }
        }
    }
    return points.length > 0;
}
