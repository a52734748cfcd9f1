// Vercel's `ai` behind the gateway, through each of the providers that people use for servers like OpenAI's.

import assert from "node:assert/strict";
import test from "node:test";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";
import { all, BREAKS, key, models, QUESTIONS, SCHEMA, thinks, url, words } from "./asked.mjs";

const openai = createOpenAI({ baseURL: url, apiKey: key });
const compatible = createOpenAICompatible({ name: "gateway", baseURL: url, apiKey: key, includeUsage: true });
// The first reads no reasoning on chat completions; of the Responses API it shows summaries, which only that provider
// sends which speaks it itself.
const PROVIDERS = [
  { name: "openai.chat", use: openai.chat, ids: models.chat, shows: () => false },
  { name: "compatible", use: compatible, ids: models.chat, shows: thinks },
  { name: "openai.responses", use: openai.responses, ids: models.responses, shows: (id) => id === "lab/native" },
];
// Without a store, a conversation cannot be continued by the ids of what was said before.
const providerOptions = { openai: { store: false } };

function weatherTool(asked) {
  const execute = ({ city }) => {
    asked.push(city);
    return words.WEATHER[city];
  };
  return { [words.TOOL]: tool({ description: "The weather.", inputSchema: jsonSchema(SCHEMA), execute }) };
}

for (const { name, use, ids, shows } of PROVIDERS) {
  for (const id of ids) {
    const asking = (prompt = words.GREETING) => ({ model: use(id), prompt, maxRetries: 0, providerOptions });

    test(`${name} ${id}: a whole answer`, async () => {
      const answer = await generateText(asking());
      assert.equal(answer.text, words.ANSWER);
      assert.equal(answer.reasoningText ?? "", shows(id) ? words.THOUGHT : "");
      assert.equal(answer.usage.totalTokens, words.TOTAL_TOKENS);
      assert.equal(answer.finishReason, "stop");
      assert.deepEqual(answer.warnings, []);
    });

    test(`${name} ${id}: a stream`, async () => {
      const answer = streamText(asking());
      assert.equal((await all(answer.textStream)).join(""), words.ANSWER);
      assert.equal((await answer.reasoningText) ?? "", shows(id) ? words.THOUGHT : "");
      assert.equal((await answer.usage).totalTokens, words.TOTAL_TOKENS);
      assert.equal(await answer.finishReason, "stop");
    });

    for (const { question, cities, told } of QUESTIONS) {
      test(`${name} ${id}: tools are called, ${cities.length} at once`, async () => {
        const asked = [];
        const loop = { ...asking(question), tools: weatherTool(asked), stopWhen: stepCountIs(3) };
        assert.equal((await generateText(loop)).text, told);
        assert.deepEqual(asked, cities);
      });

      test(`${name} ${id}: tools are called, ${cities.length} at once, streamed`, async () => {
        const asked = [];
        const loop = { ...asking(question), tools: weatherTool(asked), stopWhen: stepCountIs(3) };
        assert.equal(await streamText(loop).text, told);
        assert.deepEqual(asked, cities);
      });
    }

    test(`${name} ${id}: a conversation goes on after a tool was called`, async () => {
      const user = (content) => ({ role: "user", content });
      const { prompt, ...more } = { ...asking(), tools: weatherTool([]), stopWhen: stepCountIs(3) };
      const first = await generateText({ ...more, messages: [user(words.TWO_CITIES)] });
      const messages = [user(words.TWO_CITIES), ...first.response.messages, user(prompt)];
      assert.equal((await generateText({ ...more, messages })).text, words.ANSWER);
    });

    for (const question of BREAKS) {
      test(`${name} ${id}: a stream that breaks off has an error after what was said: ${question}`, async () => {
        const parts = await all(streamText({ ...asking(question), onError() {} }).fullStream);
        const said = parts.filter((part) => part.type === "text-delta").map((part) => part.text);
        assert.equal(said.join(""), words.BEFORE_THE_BREAK);
        assert.ok(parts.some((part) => part.type === "error"), JSON.stringify(parts.map((part) => part.type)));
      });
    }

    test(`${name} ${id}: a provider that fails is an error with its status`, async () => {
      await assert.rejects(generateText(asking(words.FAIL)), (error) => error.statusCode === 502);
    });
  }
}

test("a conversation that refers to what was said before is refused in words", async () => {
  const asking = { model: openai.responses("plain"), maxRetries: 0 };
  const first = await generateText({ ...asking, prompt: words.GREETING });
  const messages = [...first.response.messages, { role: "user", content: words.GREETING }];
  const refused = (error) => error.statusCode === 400 && /does not store responses/.test(error.message);
  await assert.rejects(generateText({ ...asking, messages }), refused);
});
