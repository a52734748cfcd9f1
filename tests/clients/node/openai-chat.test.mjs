// The `openai` library of Node on chat completions: whole answers, streams, its own helpers, tools, errors.

import assert from "node:assert/strict";
import test from "node:test";
import OpenAI from "openai";
import { all, BREAKS, key, models, QUESTIONS, SCHEMA, thinks, url, words } from "./asked.mjs";

const client = new OpenAI({ baseURL: url, apiKey: key, maxRetries: 0 });
const asking = (model, content = words.GREETING) => ({ model, messages: [{ role: "user", content }] });
const text = (chunks, field = "content") => chunks.map((chunk) => chunk.choices[0]?.delta[field] ?? "").join("");

function tools(asked) {
  const getWeather = ({ city }) => {
    asked.push(city);
    return words.WEATHER[city];
  };
  const tool = { name: words.TOOL, description: "The weather.", parameters: SCHEMA, parse: JSON.parse };
  return [{ type: "function", function: { ...tool, function: getWeather } }];
}

for (const model of models.chat) {
  test(`${model}: a whole answer`, async () => {
    const answer = await client.chat.completions.create(asking(model));
    assert.equal(answer.choices[0].message.content, words.ANSWER);
    assert.equal(answer.choices[0].message.reasoning, thinks(model) ? words.THOUGHT : undefined);
    assert.equal(answer.usage.total_tokens, words.TOTAL_TOKENS);
    assert.match(answer._request_id, /^req_/);
  });

  test(`${model}: a stream`, async () => {
    const more = { stream: true, stream_options: { include_usage: true } };
    const chunks = await all(await client.chat.completions.create({ ...asking(model), ...more }));
    assert.equal(text(chunks), words.ANSWER);
    assert.equal(text(chunks, "reasoning"), thinks(model) ? words.THOUGHT : "");
    assert.equal(chunks.at(-1).usage.total_tokens, words.TOTAL_TOKENS);
  });

  test(`${model}: the library's own helper puts a stream together`, async () => {
    const answer = await client.chat.completions.stream(asking(model)).finalChatCompletion();
    assert.equal(answer.choices[0].message.role, "assistant");
    assert.equal(answer.choices[0].message.content, words.ANSWER);
  });

  for (const stream of [false, true]) {
    for (const { question, cities, told } of QUESTIONS) {
      test(`${model}: tools are called, ${cities.length} at once${stream ? ", streamed" : ""}`, async () => {
        const asked = [];
        const runner = client.chat.completions.runTools({ ...asking(model, question), tools: tools(asked), stream });
        assert.equal(await runner.finalContent(), told);
        assert.deepEqual(asked, cities);
      });
    }
  }

  for (const question of BREAKS) {
    test(`${model}: a stream that breaks off raises after what was said: ${question}`, async () => {
      const stream = await client.chat.completions.create({ ...asking(model, question), stream: true });
      const chunks = [];
      await assert.rejects(async () => {
        for await (const chunk of stream) chunks.push(chunk);
      }, OpenAI.APIError);
      assert.equal(text(chunks), words.BEFORE_THE_BREAK);
    });
  }

  test(`${model}: the library's own helper raises too`, async () => {
    const stream = client.chat.completions.stream(asking(model, words.BREAK_OFF));
    await assert.rejects(stream.finalChatCompletion(), OpenAI.OpenAIError);
  });
}

test("a provider that fails is an internal server error", async () => {
  await assert.rejects(client.chat.completions.create(asking("plain", words.FAIL)), OpenAI.InternalServerError);
});

test("a conversation that is too long is a bad request", async () => {
  const asked = client.chat.completions.create(asking("plain", words.TOO_LONG));
  await assert.rejects(asked, (error) => error instanceof OpenAI.BadRequestError && error.code === "context_length_exceeded");
});

test("models are listed, and retrieved by ids with a slash", async () => {
  const listed = await all(client.models.list());
  assert.ok(listed.some((model) => model.id === "lab/tags"));
  assert.equal((await client.models.retrieve("lab/tags")).id, "lab/tags");
});
