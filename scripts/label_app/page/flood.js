// SPDX-License-Identifier: Apache-2.0
/**
 * Regions that follow edges: pixels by their distance from a start, on ways where a step costs the more, the more the
 * colour or the network's probability changes.
 */

const STRAIGHT = 5; // cost of a step to the next pixel where nothing changes
const SLANTED = 7; // the same across a corner: 7 / 5 is nearly the square root of 2
const COLOR = 10; // cost of a change of colour by 1 of 255
const PROBABILITY = 60; // cost of a change of probability by 1 of 255
const LARGEST = 1023; // cost of a step
const SMALLEST = 60; // pixels of the region that a click finds
const RING = 1.6; // a click compares each region with one that has this many times as many pixels
const STEP = 1.02; // between the sizes that are compared
const SMOOTH = 20; // is added to distances that are compared, so that the first pixels are no edge

/** What edges are found in: colours and probabilities. */
export class Terrain {
    #colors;
    #probability;

    /**
     * @param {{width: number, height: number, data: ArrayLike<number>}} image RGBA, row by row
     * @param {Uint8Array|null} probability of the class, 0 to 255, row by row; null: colours alone count
     */
    constructor({ width, height, data }, probability) {
        this.width = width;
        this.height = height;
        this.#colors = [0, 1, 2].map((channel) => smoothed(width, height, data, channel));
        this.#probability = probability ?? new Uint8Array(width * height);
    }

    /**
     * The cost of a step between neighbours.
     *
     * @param {number} from index of a pixel
     * @param {number} to
     * @param {boolean} slanted
     */
    cost(from, to, slanted) {
        const [red, green, blue] = this.#colors;
        const probability = this.#probability;
        const color = Math.max(
            Math.abs(red[from] - red[to]),
            Math.abs(green[from] - green[to]),
            Math.abs(blue[from] - blue[to]),
        );
        const change = COLOR * color + PROBABILITY * Math.abs(probability[from] - probability[to]);
        return Math.min((slanted ? SLANTED : STRAIGHT) + change, LARGEST);
    }
}

/**
 * Each pixel's mean with its eight neighbours, of one channel. At the border, a pixel stands for the missing ones.
 *
 * @param {number} width
 * @param {number} height
 * @param {ArrayLike<number>} data RGBA
 * @param {number} channel
 */
function smoothed(width, height, data, channel) {
    const rows = new Uint16Array(width * height);
    const found = new Uint8Array(width * height);
    for (let y = 0, at = 0; y < height; y++) {
        for (let x = 0; x < width; x++, at++) {
            const left = x > 0 ? at - 1 : at;
            const right = x < width - 1 ? at + 1 : at;
            rows[at] = data[4 * left + channel] + data[4 * at + channel] + data[4 * right + channel];
        }
    }
    for (let at = 0; at < rows.length; at++) {
        const above = at >= width ? at - width : at;
        const below = at + width < rows.length ? at + width : at;
        found[at] = Math.round((rows[above] + rows[at] + rows[below]) / 9);
    }
    return found;
}

/** A region that grows from a pixel, the nearest pixels first. */
export class Flood {
    #terrain;
    /** @type {number[][]} pixels that were reached, by their distance modulo the number of lists */
    #lists = Array.from({ length: LARGEST + 1 }, () => []);
    #listed = 0;
    #now = 0; // the distance that is looked at
    #reached; // the shortest distance that was found for a pixel, plus 1; 0: none
    #rank; // place in `order`, plus 1; 0: none
    #distances;
    /** Pixels from the nearest on: every region is the beginning of this list. */
    order;
    count = 0; // of the pixels in `order`

    /**
     * @param {Terrain} terrain
     * @param {number} start index of a pixel
     */
    constructor(terrain, start) {
        const size = terrain.width * terrain.height;
        this.#terrain = terrain;
        this.order = new Int32Array(size);
        this.#distances = new Int32Array(size);
        this.#rank = new Int32Array(size);
        this.#reached = new Int32Array(size);
        this.#reach(start, 0);
    }

    /**
     * How many pixels the region has that ends at a pixel; 0: it does not reach it yet.
     *
     * @param {number} pixel
     */
    sizeAt(pixel) {
        return this.#rank[pixel];
    }

    /**
     * Grow until a pixel is in the region, by a number of pixels at most, and not beyond the image.
     *
     * @param {number} most pixels
     * @param {number} [pixel] index; without it, the region grows by `most`
     * @returns {boolean} whether the region can grow on
     */
    grow(most, pixel = -1) {
        const full = this.count + most;
        while (this.#listed > 0 && this.count < full && !(this.#rank[pixel] > 0)) {
            const next = this.#lists[this.#now % this.#lists.length].pop();
            if (next === undefined) {
                this.#now++;
                continue;
            }
            this.#listed--;
            if (this.#rank[next] === 0) {
                this.#distances[this.count] = this.#now;
                this.order[this.count++] = next;
                this.#rank[next] = this.count;
                this.#spread(next);
            }
        }
        return this.#listed > 0;
    }

    /**
     * The size of the region with the strongest edge around it: the pixels of a ring outside are much farther away than
     * those at its rim. Within that ring, the region ends where the distance increases most.
     */
    natural() {
        const far = (/** @type {number} */ size) => this.#distances[Math.min(Math.ceil(size), this.count - 1)] + SMOOTH;
        const around = this.#best(SMALLEST, this.count / RING, (size) => far(size * RING) / far(size));
        return this.#best(around, around * RING, (size) => far(size * STEP) - far(size));
    }

    /**
     * The size from one to another for which a function is largest, in steps of a few percent.
     *
     * @param {number} from
     * @param {number} to
     * @param {(size: number) => number} strength
     */
    #best(from, to, strength) {
        let [best, strongest] = [Math.min(from, this.count), 0];
        for (let size = from; size < Math.min(to, this.count); size = Math.ceil(size * STEP)) {
            const here = strength(size);
            if (here > strongest) {
                [best, strongest] = [size, here];
            }
        }
        return best;
    }

    /**
     * @param {number} pixel
     * @param {number} distance
     */
    #reach(pixel, distance) {
        if (this.#reached[pixel] === 0 || distance + 1 < this.#reached[pixel]) {
            this.#reached[pixel] = distance + 1;
            this.#lists[distance % this.#lists.length].push(pixel);
            this.#listed++;
        }
    }

    /** @param {number} pixel */
    #spread(pixel) {
        const { width, height } = this.#terrain;
        const x = pixel % width;
        const first = pixel >= width ? -1 : 0;
        const last = pixel < width * (height - 1) ? 1 : 0;
        for (let dy = first; dy <= last; dy++) {
            for (let dx = x > 0 ? -1 : 0; dx <= (x < width - 1 ? 1 : 0); dx++) {
                const next = pixel + dy * width + dx;
                if (this.#rank[next] === 0) {
                    this.#reach(next, this.#now + this.#terrain.cost(pixel, next, dx !== 0 && dy !== 0));
                }
            }
        }
    }
}
