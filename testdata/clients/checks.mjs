// What every client here is put through, and how it is told where the server is.
// A client is { version, protocol(), list(), call(name, args, {onprogress, signal}), resources(), templates(), read(uri),
// prompts(), prompt(name), close() }.
import { parseArgs } from 'node:util';

export const legacy = '2025-11-25';
export const modern = '2026-07-28';

export function options(eras) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      era: { type: 'string', default: eras[0] },
      url: { type: 'string' },
      token: { type: 'string' },
      alias: { type: 'string', default: 'web1' },
      allow: { type: 'string', default: 'uptime' },
      deny: { type: 'string', default: 'uptime; id' },
      slow: { type: 'string', default: 'sleep 60' },
      leave: { type: 'boolean', default: false },
    },
  });
  if (!eras.includes(values.era)) throw new Error(`--era must be one of ${eras.join(', ')}`);
  if (!values.url === !positionals.length) throw new Error('give either --url or a command');
  return { ...values, command: positionals };
}

function must(condition, why, seen) {
  if (!condition) throw new Error(seen === undefined ? why : `${why}: ${JSON.stringify(seen)}`);
}

function textOf(result) {
  return (result.content ?? []).map((c) => c.text ?? '').join('\n');
}

const rejection = (promise) => promise.then(
  (value) => { throw new Error(`not rejected but answered: ${JSON.stringify(value)}`); },
  (error) => error,
);

const checks = {
  async negotiate(client, o) {
    must(client.protocol() === o.era, `negotiated other than ${o.era}`, client.protocol());
  },

  async list(client) {
    const tools = await client.list();
    const names = tools.map((t) => t.name);
    for (const name of ['ssh_list_hosts', 'ssh_plan', 'ssh_run']) must(names.includes(name), `no ${name}`, names);
    must(names.join() === names.toSorted().join(), 'the list is not sorted', names);
    for (const t of tools) {
      must(t.description && t.inputSchema?.type === 'object' && t.outputSchema, `${t.name} is not described`, t);
      for (const hint of ['readOnlyHint', 'destructiveHint', 'idempotentHint', 'openWorldHint']) {
        must(typeof t.annotations?.[hint] === 'boolean', `${t.name} says nothing about ${hint}`, t.annotations);
      }
    }
    must(tools.find((t) => t.name === 'ssh_run').annotations.readOnlyHint === false, 'ssh_run is said to be read-only');
  },

  async plan(client, o) {
    const yes = await client.call('ssh_plan', { alias: o.alias, command: o.allow });
    must(!yes.isError && yes.structuredContent?.allowed === true, 'an allowed command is not planned as such', yes);
    const no = await client.call('ssh_plan', { alias: o.alias, command: o.deny });
    must(no.structuredContent && !no.structuredContent.allowed, 'a forbidden command is planned as allowed', no);
  },

  async run(client, o) {
    const r = await client.call('ssh_run', { alias: o.alias, command: o.allow });
    must(!r.isError && r.structuredContent?.status === 'ok' && textOf(r), 'an allowed command did not run', r);
  },

  async refusal(client, o) {
    const r = await client.call('ssh_run', { alias: o.alias, command: o.deny });
    must(r.isError === true && textOf(r) && r.structuredContent?.status === 'denied', 'a forbidden command is not refused', r);
  },

  async argument(client, o) {
    const r = await client.call('ssh_run', { alias: o.alias, Command: o.allow });
    must(r.isError === true && /command/i.test(textOf(r)), 'a wrong argument is not named', r);
  },

  async unknown(client) {
    const error = await rejection(client.call('ssh_rum', {}));
    must(/ssh_rum/.test(error.message) && /ssh_run/.test(error.message), 'an unknown tool is not answered with close names', error.message);
  },

  async resources(client, o) {
    const resources = await client.resources();
    must(resources.some((r) => r.uri === 'ssh://hosts' && r.description), 'no ssh://hosts', resources);
    const read = async (uri) => {
      const { contents } = await client.read(uri);
      must(contents.length === 1 && contents[0].uri === uri && contents[0].mimeType === 'application/json', `${uri} is not JSON`, contents);
      return JSON.parse(contents[0].text);
    };
    const hosts = await read('ssh://hosts');
    must(hosts.count === hosts.hosts.length && hosts.hosts.some((h) => h.alias === o.alias), `no ${o.alias}`, hosts);
    const templates = await client.templates();
    must(templates.length === 3, 'not three templates', templates);
    for (const t of templates) {
      const part = await read(t.uriTemplate.replace('{alias}', o.alias));
      must(part.alias === o.alias, `${t.uriTemplate} is about another host`, part);
      if (t.uriTemplate.endsWith('/capabilities')) must(part.policy_probes[0].allowed === true, 'nothing is allowed', part);
    }
    const error = await rejection(client.read('ssh://host/moon'));
    must(error.message.includes('ssh://host/moon'), 'a host that is not there is not named', error.message);
  },

  async prompts(client) {
    const prompts = await client.prompts();
    must(prompts.length === 6 && prompts.every((p) => p.description), 'not six prompts', prompts);
    for (const p of prompts) {
      const { messages } = await client.prompt(p.name);
      must(messages.length === 1 && messages[0].content.text.length > 100, `${p.name} says nothing`, messages);
    }
  },

  // One call shows progress, is cancelled when the command runs, and leaves the
  // client usable.
  async cancel(client, o) {
    const seen = [];
    const abort = new AbortController();
    const late = setTimeout(() => abort.abort(new Error('no progress came')), 20_000);
    const error = await rejection(client.call('ssh_run', { alias: o.alias, command: o.slow }, {
      onprogress: (p) => {
        seen.push(p);
        if (runs(p)) abort.abort(new Error('enough'));
      },
      signal: abort.signal,
    }));
    clearTimeout(late);
    must(seen.length > 0, 'no progress', error.message);
    must(runs(seen.at(-1)), 'it was never said to run', seen);
    must(typeof seen[0].progress === 'number', 'progress is not a number', seen[0]);
    const after = await client.call('ssh_plan', { alias: o.alias, command: o.allow });
    must(!after.isError, 'the client is not usable after a cancellation', after);
  },
};

const runs = (progress) => /running/.test(progress.message);

// leave has the client vanish, without a word, while a command runs.
async function leave(client, o) {
  await client.call('ssh_run', { alias: o.alias, command: o.slow }, {
    onprogress: (p) => {
      if (!runs(p)) return;
      console.log(JSON.stringify({ ok: true }));
      process.exit(0);
    },
  });
  throw new Error('the command ended');
}

// main puts a client through the checks that it can do, prints the outcome as
// one JSON object, and exits with 1 if one of them failed.
export async function main(name, eras, connect, able = Object.keys(checks)) {
  const summary = { client: name, ok: false, checks: {} };
  let client;
  try {
    const o = options(eras);
    Object.assign(summary, { era: o.era, transport: o.url ? 'http' : 'stdio' });
    client = await connect(o);
    summary.version = client.version;
    if (o.leave) await leave(client, o);
    for (const check of able) {
      summary.checks[check] = await checks[check](client, o).then(() => 'ok', (error) => String(error.message ?? error));
    }
    summary.ok = able.every((check) => summary.checks[check] === 'ok');
  } catch (error) {
    summary.problem = String(error?.stack ?? error);
  }
  await Promise.race([client?.close(), new Promise((done) => setTimeout(done, 10_000))]).catch(() => {});
  console.log(JSON.stringify(summary, null, 2));
  process.exit(summary.ok ? 0 : 1);
}
