// What is seen, in words.

const ACRONYM = /^((?:i-)?(?:fgsm|fgm|pgd|mim|apgd))(?=-|$)(.*)$/;

export function attackName(name) {
  const [, short, rest] = ACRONYM.exec(name) ?? [];
  return short ? short.toUpperCase() + (rest === "-l2" ? ", L2" : rest.toUpperCase().replace("-L2", ", L2")) : name.replace(/-l2$/, ", L2");
}

/** A class in a sentence: a 7, an 8, or its name in quotation marks. */
export function className(info, label) {
  const name = info.classes[label] ?? String(label);
  if (!/^\d+$/.test(name)) return `“${name}”`;
  return `${/^(8|11$|18$)/.test(name) ? "an" : "a"} ${name}`;
}

export function percent(share) {
  if (share >= 0.995 && share < 1) return "> 99\u202f%";
  if (share > 0 && share < 0.005) return "< 1\u202f%";
  return `${(100 * share).toFixed(0)}\u202f%`;
}

/** "ε = 0.1", on one line. */
function epsilonSaid(value) {
  return `ε\u00a0=\u00a0${value}`;
}

/** One or two sentences on a model's predictions of an image and of its adversarial version. */
export function predictionsSaid(info, { clean, adversarial }, truth, { attack, epsilon, scale }) {
  const taken = ({ label, probabilities }) =>
    `taken for ${className(info, label)} with\u00a0${percent(probabilities[label])}`;
  const first = `T${taken(clean).slice(1)}`;
  const begin = truth === null || clean.label === truth ? `${first}.` : `${first}, but it is ${className(info, truth)}.`;
  if (epsilon === 0) return `${begin} At ${epsilonSaid(0)} nothing is changed.`;
  const still = adversarial.label === clean.label ? "still " : "";
  return `${begin} At ${epsilonSaid(scale.said(epsilon))} under ${attackName(attack.name)} it is ${still}${taken(adversarial)}.`;
}

/** How far the image must be moved, or what was tried in vain. */
export function smallestSaid({ epsilon, limit, search, said }) {
  if (epsilon === null) return `Not misclassified under ${attackName(search)} at any ε tried up to ${said(limit)}.`;
  if (epsilon === 0) return "Misclassified as it is.";
  return `Smallest ε found at which it is misclassified: ${said(epsilon)} (${attackName(search)}).`;
}

/** How much further the image must be moved for one model than for the other, once both are known. */
export function comparisonSaid(first, second) {
  if (!first?.smallest?.epsilon || !second?.smallest?.epsilon) return "";
  if (first.smallest.image !== second.smallest.image || first.smallest.search !== second.smallest.search) return "";
  const [less, more] = first.smallest.epsilon <= second.smallest.epsilon ? [first, second] : [second, first];
  const { epsilon, search, said } = more.smallest;
  const times = (epsilon / less.smallest.epsilon).toFixed(1);
  const begin = `To have this image misclassified, ${attackName(search)} needs ${epsilonSaid(said(epsilon))} on ${more.info.name}`;
  return times === "1.0" ? `${begin}, and as much on ${less.info.name}.` : `${begin}: ${times} times as much as on ${less.info.name}.`;
}

/** What a model is, in a few words. */
export function modelSaid({ backend, adversarial, recipe, parameters, weights }) {
  const named = recipe && recipe !== "standard" ? ` (${recipe})` : "";
  const trained = adversarial ? `adversarially trained${named}` : recipe && `standard training${named}`;
  const size = parameters && `${parameters.toLocaleString("en")} parameters`;
  return [backend, trained, size, weights && `weights in ${weights}`].filter(Boolean).join(", ");
}

/** A model's accuracy on test images: clean, and under the attack at the measured epsilon nearest to this one. */
export function recordSaid({ accuracy }, { attack, epsilon, scale }) {
  if (!accuracy) return "";
  const share = (value) => `${(100 * value).toFixed(1)}\u202f%`;
  const clean = `Of its test images ${share(accuracy.clean)} are classified correctly`;
  const measured = accuracy.attacks[attack.name] ?? [];
  if (!measured.length) return `${clean}.`;
  const [at, under] = measured.reduce((a, b) => (Math.abs(b[0] - epsilon) < Math.abs(a[0] - epsilon) ? b : a));
  return `${clean}; under ${attackName(attack.name)} at ${epsilonSaid(scale.said(at))}, ${share(under)}.`;
}
