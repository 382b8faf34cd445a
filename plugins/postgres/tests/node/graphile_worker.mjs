// graphile-worker with its own statements and workers: node - PACKAGE URL FUNCTION.
const [name, connectionString, step] = process.argv.slice(2);
const { Logger, makeWorkerUtils, run, runOnce } = await import(name);
const options = { connectionString, noHandleSignals: true, logger: new Logger(() => () => {}) };
const fail = async () => { throw new Error('secret of a traceback'); };

async function fill() {
  const hour = { runAt: new Date(Date.now() + 3600e3) };
  const utils = await makeWorkerUtils(options);
  await utils.migrate();
  for (let n = 0; n < 3; n++) await utils.addJob('mail', { secret: 'of a user' });
  await utils.addJob('mail', {}, { priority: -5 });
  await utils.addJob('mail', {}, hour);
  await utils.addJob('report', {}, { queueName: 'serial' });
  await utils.addJob('report', {}, { queueName: 'serial' });
  const later = await utils.addJob('later', {}, { maxAttempts: 3 });
  await utils.addJob('boom', {}, { maxAttempts: 1 });
  await runOnce({ ...options, taskList: { later: fail, boom: fail } });
  await utils.rescheduleJobs([later.id], hour);
  await utils.addJob('hang', {}, { queueName: 'serial', priority: -1 });
  await new Promise((resolve) => run({ ...options, taskList: { hang: () => new Promise(resolve) } }));
  process.exit(0); // as a worker that is killed
}

async function work() {
  await runOnce({ ...options, concurrency: 2, taskList: { mail: async () => {}, report: async () => {} } });
}

await { fill, work }[step]();
