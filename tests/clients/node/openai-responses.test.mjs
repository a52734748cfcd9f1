// The `openai` library of Node on the Responses API: whole answers, streams, its own helper, tools, errors.

import assert from "node:assert/strict";
import test from "node:test";
import OpenAI from "openai";
import { all, BREAKS, key, models, QUESTIONS, SCHEMA, thinks, url, words } from "./asked.mjs";

const client = new OpenAI({ baseURL: url, apiKey: key, maxRetries: 0 });
const asking = (model, input = words.GREETING) => ({ model, input });
const text = (events, kind) => events.filter((event) => event.type === kind).map((event) => event.delta).join("");
const tools = [{ type: "function", name: words.TOOL, description: "The weather.", parameters: SCHEMA, strict: true }];

function thought(response) {
  const items = response.output.filter((item) => item.type === "reasoning");
  return items.flatMap((item) => [...(item.content ?? []), ...item.summary]).map((part) => part.text).join("");
}

for (const model of models.responses) {
  test(`${model}: a whole answer`, async () => {
    const response = await client.responses.create(asking(model));
    assert.equal(response.output_text, words.ANSWER);
    assert.equal(thought(response), thinks(model) ? words.THOUGHT : "");
    assert.equal(response.usage.total_tokens, words.TOTAL_TOKENS);
  });

  test(`${model}: a stream`, async () => {
    const events = await all(await client.responses.create({ ...asking(model), stream: true }));
    assert.equal(text(events, "response.output_text.delta"), words.ANSWER);
    assert.equal(events.at(-1).type, "response.completed");
    assert.equal(events.at(-1).response.usage.total_tokens, words.TOTAL_TOKENS);
  });

  test(`${model}: the library's own helper puts a stream together`, async () => {
    const response = await client.responses.stream(asking(model)).finalResponse();
    assert.equal(response.output_text, words.ANSWER);
    assert.equal(thought(response), thinks(model) ? words.THOUGHT : "");
  });

  for (const stream of [false, true]) {
    for (const { question, cities, told } of QUESTIONS) {
      test(`${model}: tools are called, ${cities.length} at once${stream ? ", streamed" : ""}`, async () => {
        const input = [{ role: "user", content: question }];
        const turn = () => {
          const request = { model, input, tools };
          return stream ? client.responses.stream(request).finalResponse() : client.responses.create(request);
        };
        const first = await turn();
        const calls = first.output.filter((item) => item.type === "function_call");
        const asked = calls.map((call) => JSON.parse(call.arguments).city);
        assert.deepEqual(asked, cities);
        const outputs = calls.map(({ call_id }, number) => ({ call_id, output: words.WEATHER[asked[number]] }));
        input.push(...first.output, ...outputs.map((one) => ({ type: "function_call_output", ...one })));
        assert.equal((await turn()).output_text, told);
      });
    }
  }

  for (const question of BREAKS) {
    test(`${model}: a stream that breaks off raises after what was said: ${question}`, async () => {
      const stream = await client.responses.create({ ...asking(model, question), stream: true });
      const events = [];
      await assert.rejects(async () => {
        for await (const event of stream) events.push(event);
      }, OpenAI.APIError);
      assert.equal(text(events, "response.output_text.delta"), words.BEFORE_THE_BREAK);
    });
  }

  test(`${model}: the library's own helper raises too`, async () => {
    await assert.rejects(client.responses.stream(asking(model, words.BREAK_OFF)).finalResponse(), OpenAI.OpenAIError);
  });

  test(`${model}: an answer that was cut short is incomplete`, async () => {
    const response = await client.responses.create(asking(model, words.RAMBLE));
    assert.equal(response.status, "incomplete");
    assert.equal(response.incomplete_details.reason, "max_output_tokens");
    assert.equal(response.output_text, words.CUT_SHORT);
  });
}

test("a provider that fails is an internal server error", async () => {
  await assert.rejects(client.responses.create(asking("plain", words.FAIL)), OpenAI.InternalServerError);
});
