import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.FencedInstanceIdException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * The Java client in groups: what a third member takes from two, static members that come back, and one of two with one id. The topic
 * has 6 partitions, so that two members have 3 each and three have 2.
 */
class Groups {
    static final int PARTITIONS = 6;
    static final int HEARTBEAT_MS = 500;
    /** In so many heartbeats a member hears of a rebalance, if there is one. */
    static final int QUIET_MS = 4 * HEARTBEAT_MS;

    record Change(String name, Set<Integer> partitions) {}

    final String bootstrap;
    final String topic;
    List<Member> members = new ArrayList<>();

    Groups(String bootstrap, String topic) {
        this.bootstrap = bootstrap;
        this.topic = topic;
    }

    /** A consumer, what it owns, and each change of that in the order they came. */
    class Member implements ConsumerRebalanceListener {
        final KafkaConsumer<byte[], byte[]> consumer;
        final Set<Integer> owned = new TreeSet<>();
        final List<Change> changes = new ArrayList<>();

        Member(String group, Class<?> assignor, String instance) {
            Map<String, Object> settings = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "group.id", group,
                    "partition.assignment.strategy", assignor.getName(), "session.timeout.ms", 10_000,
                    "heartbeat.interval.ms", HEARTBEAT_MS, "enable.auto.commit", false));
            if (instance != null) settings.put("group.instance.id", instance);
            consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
            consumer.subscribe(List.of(topic), this);
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            changed("assigned", partitions);
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            changed("revoked", partitions);
        }

        @Override
        public void onPartitionsLost(Collection<TopicPartition> partitions) {
            changed("lost", partitions);
        }

        void changed(String name, Collection<TopicPartition> partitions) {
            Set<Integer> numbers = partitions.stream().map(TopicPartition::partition).collect(Collectors.toCollection(TreeSet::new));
            changes.add(new Change(name, numbers));
            if (name.equals("assigned")) owned.addAll(numbers);
            else owned.removeAll(numbers);
        }

        void poll() {
            consumer.poll(Duration.ofMillis(50));
        }

        /** What was taken from it since its change number `seen`, empty changes left out. */
        List<Change> takenSince(int seen) {
            return changes.stream().skip(seen).filter(change -> !change.partitions.isEmpty()).toList();
        }
    }

    /** Waits until all own equally many, and every partition is owned. */
    void waitEven() throws Exception {
        Client.waitFor(members.size() + " members share " + PARTITIONS + " partitions evenly", () -> {
            members.forEach(Member::poll);
            Set<Integer> all = new HashSet<>();
            members.forEach(member -> all.addAll(member.owned));
            return all.size() == PARTITIONS && members.stream().allMatch(m -> m.owned.size() == PARTITIONS / members.size());
        });
    }

    /** None of them hears of a rebalance. */
    static void checkUndisturbed(List<Member> members) {
        List<Integer> before = members.stream().map(member -> member.changes.size()).toList();
        long until = System.currentTimeMillis() + QUIET_MS;
        while (System.currentTimeMillis() < until) members.forEach(Member::poll);
        IntStream.range(0, members.size()).forEach(i -> checkSeen(members.get(i), before.get(i), "member " + i + " while nothing happened"));
    }

    static void checkSeen(Member member, int seen, String who) {
        var changes = member.changes.subList(seen, member.changes.size());
        Client.check(changes.isEmpty(), who + " saw " + changes);
    }

    void close() {
        members.forEach(member -> member.consumer.close());
        members = new ArrayList<>();
    }

    /** Of what two members own, a third takes two partitions, and the other four are never revoked. */
    void cooperative() throws Exception {
        String group = topic + "-cooperative";
        for (int i = 0; i < 2; i++) members.add(new Member(group, CooperativeStickyAssignor.class, null));
        waitEven();
        List<Set<Integer>> before = members.stream().map(member -> (Set<Integer>) new TreeSet<>(member.owned)).toList();
        List<Integer> seen = members.stream().map(member -> member.changes.size()).toList();
        members.add(new Member(group, CooperativeStickyAssignor.class, null));
        waitEven();
        for (int i = 0; i < 2; i++) {
            Set<Integer> given = new TreeSet<>(before.get(i));
            given.removeAll(members.get(i).owned);
            var taken = members.get(i).takenSince(seen.get(i));
            Client.check(given.size() == 1 && taken.equals(List.of(new Change("revoked", given))),
                    "member " + i + " owned " + before.get(i) + ", then saw " + taken);
        }
        close();
    }

    Member joinStatic(String instance) {
        return new Member(topic + "-static", RangeAssignor.class, instance);
    }

    /** Each of two static members goes and comes back, to what it had; the other hears nothing of it. */
    void returning() throws Exception {
        List<String> instances = List.of("first", "second");
        for (String instance : instances) members.add(joinStatic(instance));
        waitEven();
        checkUndisturbed(members);
        for (int i = 0; i < 2; i++) {
            Set<Integer> owned = new TreeSet<>(members.get(i).owned);
            int seen = members.get(1 - i).changes.size();
            members.get(i).consumer.close();
            members.set(i, joinStatic(instances.get(i)));
            waitEven();
            checkUndisturbed(members);
            Client.check(members.get(i).owned.equals(owned), instances.get(i) + " owned " + owned + ", and when it came back " + members.get(i).owned);
            checkSeen(members.get(1 - i), seen, "while " + instances.get(i) + " was away, the other");
        }
    }

    /** A second `first` takes what the first one had, which is told that it is fenced; `second` hears nothing of it. */
    void fenced() throws Exception {
        Client.check(members.size() == 2, "there are no two static members");
        Member first = members.get(0), second = members.get(1), rival = joinStatic("first");
        Set<Integer> owned = new TreeSet<>(first.owned), told = new HashSet<>();
        int seen = second.changes.size();
        Client.waitFor("the first is fenced and its rival owns something", () -> {
            rival.poll();
            second.poll();
            try {
                if (told.isEmpty()) first.poll();
            } catch (FencedInstanceIdException fenced) {
                told.add(0);
            }
            return !told.isEmpty() && !rival.owned.isEmpty();
        });
        Client.check(rival.owned.equals(owned), "the first owned " + owned + ", its rival " + rival.owned);
        checkUndisturbed(List.of(second, rival));
        checkSeen(second, seen, "the other");
        members.add(rival);
        close();
    }

    /** The steps, on a topic of their own. */
    static void run(Client client) {
        Groups groups = new Groups(client.bootstrap, client.topic + "-six");
        client.step("cooperative", () -> {
            new Client(groups.bootstrap, groups.topic).create(PARTITIONS);
            groups.cooperative();
        });
        client.step("static", () -> {
            groups.close();
            groups.returning();
        });
        client.step("fenced", groups::fenced);
        groups.close();
    }
}
