import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Future;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** The Java client, of the version that is on the class path: the scenario of ../README.md. */
public class Client {
    static final int PARTITIONS = 3;
    static final short REPLICATION = 3;
    static final int PER_CODEC = 12;
    static final int RESUMED = 6;
    static final int WAIT_MS = 40_000;
    static final int STREAM_SECONDS = Integer.parseInt(System.getenv().getOrDefault("STREAM_SECONDS", "8"));
    static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");
    /** One key twice: what keeps headers in a map loses one of them. */
    static final List<List<String>> HEADERS = List.of(List.of("trace", "a"), List.of("trace", "b"), List.of("empty", ""));

    record Sent(int partition, byte[] key, byte[] value) {}

    interface Work {
        void run() throws Exception;
    }

    interface Condition {
        boolean holds() throws Exception;
    }

    final String bootstrap;
    final String topic;
    final Map<String, String> steps = Collections.synchronizedMap(new LinkedHashMap<>());

    Client(String bootstrap, String topic) {
        this.bootstrap = bootstrap;
        this.topic = topic;
    }

    public static void main(String[] asked) throws Exception {
        Client client = new Client(asked[0], asked[1]);
        List<String> words = List.of(asked);
        if (words.contains("--read")) {
            client.step("read", client::readAll);
            print(Map.of("steps", client.steps));
        } else if (words.contains("--stream")) {
            client.stream(Integer.parseInt(asked[3]));
        } else {
            client.run();
        }
    }

    /** Reads what somebody else wrote: the records of each codec. */
    void readAll() throws Exception {
        List<Sent> sent = CODECS.stream().flatMap(codec -> records(codec, PER_CODEC).stream()).toList();
        try (var reader = member(topic + "-readers")) {
            compare(sent, take(reader, sent.size()));
        }
    }

    /** Records with and without key, with and without value, every byte. */
    static List<Sent> records(String codec, int count) {
        List<Sent> records = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            byte[] key = i % 4 == 1 || i % 4 == 3 ? null : bytes(codec + "-" + i);
            byte[] start = bytes(codec + " " + i + " ");
            byte[] value = Arrays.copyOf(start, start.length + 256 + 100 * i);
            Arrays.fill(value, start.length, value.length, (byte) 'x');
            for (int b = 0; b < 256; b++) value[start.length + b] = (byte) b;
            records.add(new Sent(i % PARTITIONS, key, i % 4 == 2 || i % 4 == 3 ? null : value));
        }
        return records;
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static List<Long> ends(List<Sent> records) {
        return partitions().mapToObj(p -> records.stream().filter(r -> r.partition == p).count()).toList();
    }

    static IntStream partitions() {
        return IntStream.range(0, PARTITIONS);
    }

    List<TopicPartition> all() {
        return partitions().mapToObj(p -> new TopicPartition(topic, p)).toList();
    }

    static void check(boolean holds, String what) {
        if (!holds) throw new IllegalStateException(what);
    }

    static void waitFor(String what, Condition condition) throws Exception {
        long until = System.currentTimeMillis() + WAIT_MS;
        while (!condition.holds()) {
            check(System.currentTimeMillis() < until, "after " + WAIT_MS + " ms not yet: " + what);
            Thread.sleep(20);
        }
    }

    /** Complains about the first difference between what was sent and what was read. */
    static void compare(List<Sent> sent, List<ConsumerRecord<byte[], byte[]>> got) {
        partitions().forEach(p -> {
            List<Sent> expected = sent.stream().filter(r -> r.partition == p).toList();
            var found = got.stream().filter(r -> r.partition() == p).toList();
            for (int at = 0; at < Math.min(expected.size(), found.size()); at++) {
                Sent a = expected.get(at);
                var b = found.get(at);
                boolean same = Arrays.equals(a.key, b.key()) && Arrays.equals(a.value, b.value()) && headers(b).equals(HEADERS);
                check(same, "partition " + p + ", record " + at + ": sent " + text(a.key) + " " + text(a.value)
                        + ", read " + text(b.key()) + " " + text(b.value()) + " " + headers(b));
            }
            check(expected.size() == found.size(), "partition " + p + ": sent " + expected.size() + ", read " + found.size());
        });
    }

    static List<List<String>> headers(ConsumerRecord<byte[], byte[]> record) {
        List<List<String>> found = new ArrayList<>();
        for (Header header : record.headers()) found.add(List.of(header.key(), String.valueOf(text(header.value()))));
        return found;
    }

    static String text(byte[] bytes) {
        return bytes == null ? null : new String(bytes, 0, Math.min(20, bytes.length), StandardCharsets.UTF_8);
    }

    Admin admin() {
        return Admin.create(Map.of("bootstrap.servers", bootstrap));
    }

    void create(int partitions) throws Exception {
        try (Admin admin = admin()) {
            admin.createTopics(List.of(new NewTopic(topic, partitions, REPLICATION))).all().get();
            waitFor(partitions + " partitions of 3 replicas have leaders", () -> {
                var found = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions();
                return found.size() == partitions && found.stream().allMatch(p -> p.leader() != null && p.replicas().size() == REPLICATION);
            });
        }
    }

    /** Idempotent and with acks=all, as the Java client is by itself. */
    KafkaProducer<byte[], byte[]> producer(String codec) {
        return new KafkaProducer<>(Map.of("bootstrap.servers", bootstrap, "compression.type", codec, "linger.ms", 20),
                new ByteArraySerializer(), new ByteArraySerializer());
    }

    void produce(String codec, List<Sent> records) throws Exception {
        List<Header> headers = HEADERS.stream().map(h -> (Header) new RecordHeader(h.get(0), bytes(h.get(1)))).toList();
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (var producer = producer(codec)) {
            for (Sent r : records) sent.add(producer.send(new ProducerRecord<>(topic, r.partition, r.key, r.value, headers)));
        }
        for (var future : sent) future.get();
    }

    KafkaConsumer<byte[], byte[]> member(String group) {
        var consumer = new KafkaConsumer<>(Map.of("bootstrap.servers", bootstrap, "group.id", group, "auto.offset.reset", "earliest",
                "enable.auto.commit", false), new ByteArrayDeserializer(), new ByteArrayDeserializer());
        consumer.subscribe(List.of(topic));
        return consumer;
    }

    static List<ConsumerRecord<byte[], byte[]>> take(KafkaConsumer<byte[], byte[]> consumer, int count) throws Exception {
        List<ConsumerRecord<byte[], byte[]>> got = new ArrayList<>();
        waitFor(count + " records were read", () -> {
            consumer.poll(Duration.ofMillis(100)).forEach(got::add);
            return got.size() >= count;
        });
        return got;
    }

    /** A step of the scenario: what goes wrong in it is written down, and the next one is tried. */
    void step(String name, Work work) {
        System.err.println(name);
        try {
            work.run();
            steps.put(name, "ok");
        } catch (Exception | Error error) {
            steps.put(name, error.toString());
        }
    }

    void run() throws InterruptedException {
        String group = topic + "-group";
        List<Sent> sent = new ArrayList<>();
        step("create", () -> create(PARTITIONS));
        // Beside the others, since all wait for groups most of the time.
        Thread groups = new Thread(() -> Groups.run(this));
        groups.start();
        for (String codec : CODECS) {
            step(codec, () -> {
                produce(codec, records(codec, PER_CODEC));
                sent.addAll(records(codec, PER_CODEC));
            });
        }
        try (var reader = member(group)) {
            step("consume", () -> compare(sent, take(reader, sent.size())));
            step("commit", () -> commit(reader, group, ends(sent)));
        }
        step("resume", () -> {
            List<Sent> more = records("none", RESUMED);
            produce("none", more);
            sent.addAll(more);
            try (var reader = member(group)) {
                compare(more, take(reader, more.size()));
            }
        });
        step("rebalance", () -> rebalance(group + "-two"));
        step("offsets", () -> offsets(ends(sent)));
        groups.join();
        print(Map.of("steps", steps));
    }

    void commit(KafkaConsumer<byte[], byte[]> reader, String group, List<Long> ends) throws Exception {
        reader.commitSync();
        try (Admin admin = admin()) {
            var committed = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
            List<Long> found = all().stream().map(p -> committed.containsKey(p) ? committed.get(p).offset() : -1).toList();
            check(found.equals(ends), "committed " + found + ", read to " + ends);
        }
    }

    void rebalance(String group) throws Exception {
        try (var first = member(group); var second = member(group)) {
            waitFor("two members share 3 partitions", () -> {
                first.poll(Duration.ofMillis(100));
                second.poll(Duration.ofMillis(100));
                Set<TopicPartition> a = first.assignment(), b = second.assignment(), both = new HashSet<>(a);
                both.addAll(b);
                return !a.isEmpty() && !b.isEmpty() && a.size() + b.size() == PARTITIONS && both.size() == PARTITIONS;
            });
        }
    }

    void offsets(List<Long> ends) throws Exception {
        try (Admin admin = admin()) {
            List<Long> zero = List.of(0L, 0L, 0L);
            check(list(admin, OffsetSpec.earliest()).equals(zero), "begins at " + list(admin, OffsetSpec.earliest()));
            check(list(admin, OffsetSpec.latest()).equals(ends), "ends at " + list(admin, OffsetSpec.latest()) + ", not " + ends);
            check(list(admin, OffsetSpec.forTimestamp(1)).equals(zero), "since 1970 at " + list(admin, OffsetSpec.forTimestamp(1)));
            // Which record has the largest timestamp is not told here; that there is one is.
            check(list(admin, OffsetSpec.maxTimestamp()).stream().allMatch(at -> at >= 0), "no largest timestamp");
        }
    }

    List<Long> list(Admin admin, OffsetSpec spec) throws Exception {
        var found = admin.listOffsets(all().stream().collect(Collectors.toMap(p -> p, p -> spec))).all().get();
        return all().stream().map(p -> found.get(p).offset()).toList();
    }

    /** The long run: while it sends, a broker is killed; nothing acknowledged may be missing, nothing may come twice. */
    void stream(int count) throws Exception {
        create(PARTITIONS);
        Set<Integer> acked = ConcurrentHashMap.newKeySet();
        Map<Integer, String> refused = new ConcurrentHashMap<>();
        long began = System.currentTimeMillis();
        boolean announced = false;
        try (var producer = producer("none")) {
            for (int i = 0; i < count; i++) {
                int number = i;
                producer.send(new ProducerRecord<>(topic, i % PARTITIONS, null, bytes("" + i)), (told, error) -> {
                    if (error == null) acked.add(number);
                    else refused.put(number, error.toString());
                });
                if (acked.size() >= count / 3 && !announced) {
                    announced = true;
                    System.out.println("a third is acknowledged");
                }
                Thread.sleep(Math.max(0, began + 1000L * STREAM_SECONDS * i / count - System.currentTimeMillis()));
            }
        }
        List<Integer> got = new ArrayList<>();
        try (var reader = member(topic + "-group")) {
            take(reader, acked.size()).forEach(r -> got.add(Integer.parseInt(text(r.value()))));
            // Duplicates would come after what is awaited.
            reader.poll(Duration.ofSeconds(1)).forEach(r -> got.add(Integer.parseInt(text(r.value()))));
        }
        Set<Integer> read = new TreeSet<>(got);
        long missing = acked.stream().filter(i -> !read.contains(i)).count();
        Map<String, Object> line = new LinkedHashMap<>(Map.of("idempotent", true, "sent", count, "acked", acked.size(),
                "refused", refused.size(), "missing", missing, "duplicates", got.size() - read.size()));
        refused.values().stream().findFirst().ifPresent(error -> line.put("refusal", error));
        print(line);
    }

    /** One line of JSON: text, numbers, booleans and maps of them. */
    static void print(Map<String, ?> facts) {
        Map<String, Object> line = new LinkedHashMap<>(Map.of("client", "java", "version", version()));
        line.putAll(facts);
        System.out.println(json(line));
    }

    static String version() {
        Properties told = new Properties();
        try (var file = Admin.class.getResourceAsStream("/kafka/kafka-version.properties")) {
            told.load(file);
        } catch (IOException error) {
            return error.toString();
        }
        return told.getProperty("version");
    }

    static String json(Object value) {
        if (value instanceof Map<?, ?> map) {
            return map.entrySet().stream().map(e -> json(e.getKey()) + ":" + json(e.getValue())).collect(Collectors.joining(",", "{", "}"));
        }
        if (!(value instanceof String text)) return String.valueOf(value);
        return '"' + text.replace("\\", "\\\\").replace("\"", "\\\"").replace("\n", "\\n").replaceAll("\\p{Cntrl}", "?") + '"';
    }
}
