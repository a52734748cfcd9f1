// What every file here needs to know: where the gateway is, what its models are called, what they are asked and what
// they say. All of it comes from the test that starts node, so that it stands in one place.

export const { url, key, models, words } = JSON.parse(process.env.GATEWAY_UNDER_TEST);

export const QUESTIONS = [
  { question: words.ONE_CITY, cities: ["Oslo"], told: words.OF_ONE_CITY },
  { question: words.TWO_CITIES, cities: ["Oslo", "Rome"], told: words.OF_TWO_CITIES },
];
export const BREAKS = [words.BREAK_OFF, words.FALL_SILENT];
export const SCHEMA = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};
export const thinks = (model) => model !== "plain";

export async function all(iterable) {
  const found = [];
  for await (const one of iterable) found.push(one);
  return found;
}
