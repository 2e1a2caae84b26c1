// Signs and verifies with the providers' own SDKs. Reads one JSON array of jobs from stdin, writes one of answers.
//
// A job is {op: "examples"}, or {op: "sign" | "verify", provider, secret, body (base64), at (unix ms), id, headers};
// an answer is a list of [event, body (base64)], the headers as [name, value], or true or a text that says why not.
// `at` is what the SDK's clock shows.
import { createRequire } from "node:module";
import { sign, verify } from "@octokit/webhooks-methods";
import { signWebhookPayload, verifyWebhookSignature } from "@notionhq/client";
import { LinearWebhookClient } from "@linear/sdk/webhooks";
import Stripe from "stripe";
import { Webhook } from "standardwebhooks";

const stripe = new Stripe("sk_test_unused");

const providers = {
  github: {
    sign: async ({ secret, body }) => [["x-hub-signature-256", await sign(secret, body)]],
    verify: ({ secret, body, headers }) => verify(secret, body, headers["x-hub-signature-256"]),
  },
  stripe: {
    sign: ({ secret, body, at }) => {
      const timestamp = Math.floor(at / 1000);
      return [["stripe-signature", stripe.webhooks.generateTestHeaderString({ payload: body, secret, timestamp })]];
    },
    verify: ({ secret, body, headers }) =>
      Boolean(stripe.webhooks.constructEvent(Buffer.from(body), headers["stripe-signature"], secret)),
  },
  "standard-webhooks": {
    sign: ({ secret, body, at, id }) => [
      ["webhook-id", id],
      ["webhook-timestamp", String(Math.floor(at / 1000))],
      ["webhook-signature", new Webhook(secret).sign(id, new Date(at), body)],
    ],
    verify: ({ secret, body, headers }) => Boolean(new Webhook(secret).verify(body, headers)),
  },
  notion: {
    sign: async ({ secret, body }) => [["x-notion-signature", await signWebhookPayload({ body, verificationToken: secret })]],
    verify: ({ secret, body, headers }) =>
      verifyWebhookSignature({ body, signature: headers["x-notion-signature"], verificationToken: secret }),
  },
  linear: {
    verify: ({ secret, body, headers }) =>
      new LinearWebhookClient(secret).verify(Buffer.from(body), headers["linear-signature"]),
  },
};

function examples() {
  const events = createRequire(import.meta.url)("@octokit/webhooks-examples");
  const encode = (body) => Buffer.from(JSON.stringify(body)).toString("base64");
  return events.flatMap(({ name, examples }) => examples.map((body) => [name, encode(body)]));
}

async function answer(job) {
  if (job.op === "examples") return examples();
  const body = Buffer.from(job.body, "base64").toString();
  const headers = Object.fromEntries(job.headers ?? []);
  Date.now = () => job.at;
  const done = providers[job.provider][job.op]({ ...job, body, headers });
  if (job.op === "sign") return done;
  return (await done) || "refused";
}

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const answers = [];
for (const job of JSON.parse(Buffer.concat(chunks))) {
  answers.push(await Promise.resolve().then(() => answer(job)).catch((error) => String(error)));
}
process.stdout.write(JSON.stringify(answers));
