// A short-polling client of many examples. It runs in the page of lesson 02, and in Node.

// ANCHOR: broken
export function runBroken(last, fetchJson, show) {
  // BUG: setInterval does not wait for the awaits inside it. Questions overlap, and answers overtake each other.
  const timer = setInterval(async () => {
    const query = new URLSearchParams({ last_message_id: last, delay: Math.random() < 0.5 ? 700 : 300 });
    const answer = await fetchJson(`/api/messages?${query}`);
    last = answer.last_message_id;
    answer.messages.forEach(({ text }) => show(`broken: ${text}`));
  }, 200);
  setTimeout(() => clearInterval(timer), 10_000);
}
// ANCHOR_END: broken
