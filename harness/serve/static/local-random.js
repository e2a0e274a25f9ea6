// The random numbers of NumPy's default generator, so that attacks start where the harness's do:
// SeedSequence (O'Neill's seed_seq_fe) and PCG64 (XSL RR 128/64), as NumPy documents them.

const POOL = 4;
const MASK64 = (1n << 64n) - 1n;
const MASK128 = (1n << 128n) - 1n;
const MULTIPLIER = 0x2360ed051fc65da44385df649fccf645n;

/** A hash whose constant changes with each number. */
function hashing(constant, multiplier) {
  return (value) => {
    const mixed = value ^ constant;
    constant = Math.imul(constant, multiplier);
    const product = Math.imul(mixed, constant);
    return (product ^ (product >>> 16)) >>> 0;
  };
}

/** The pool of a SeedSequence of whole numbers below 2³². */
function poolOf(entropy) {
  const hash = hashing(0x43b0d7e5, 0x931e8875);
  const mix = (one, other) => {
    const mixed = (Math.imul(0xca01f9dd, one) - Math.imul(0x4973f715, other)) | 0;
    return (mixed ^ (mixed >>> 16)) >>> 0;
  };
  const pool = Array.from({ length: POOL }, (_, at) => hash(entropy[at] ?? 0));
  for (let from = 0; from < POOL; from++) {
    for (let to = 0; to < POOL; to++) {
      if (from !== to) pool[to] = mix(pool[to], hash(pool[from]));
    }
  }
  for (const more of entropy.slice(POOL)) {
    for (let to = 0; to < POOL; to++) pool[to] = mix(pool[to], hash(more));
  }
  return pool;
}

/** Four numbers of 64 bits from a pool. */
function stateOf(pool) {
  const hash = hashing(0x8b51f9dd, 0x58f38ded);
  const words = Array.from({ length: 8 }, (_, at) => BigInt(hash(pool[at % POOL])));
  return [0, 2, 4, 6].map((at) => words[at] | (words[at + 1] << 32n));
}

/**
 * What `numpy.random.default_rng(seed).random(count, dtype=float32)` gives.
 * @param {number[]} seed whole numbers below 2³²
 * @param {number} count
 * @returns {Float64Array} in [0, 1)
 */
export function uniformDraws(seed, count) {
  const [high, low, above, below] = stateOf(poolOf(seed));
  const increment = ((((above << 64n) | below) << 1n) | 1n) & MASK128;
  const next = (state) => (state * MULTIPLIER + increment) & MASK128;
  let state = next((next(0n) + ((high << 64n) | low)) & MASK128);
  const found = new Float64Array(count);
  for (let at = 0; at < count; at += 2) {
    state = next(state);
    const folded = ((state >> 64n) ^ state) & MASK64;
    const turn = state >> 122n;
    const bits = ((folded >> turn) | (folded << (64n - turn))) & MASK64;
    // Each gives two numbers of 24 bits, that of its lower half first.
    found[at] = Number((bits >> 8n) & 0xffffffn) / 2 ** 24;
    if (at + 1 < count) found[at + 1] = Number(bits >> 40n) / 2 ** 24;
  }
  return found;
}
