package clients;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.Objects;
import java.util.concurrent.Callable;

/** What both plays need: asking for a change of the stage, comparing, and waiting for things to work again. */
final class Stage {
    static final String SCRIPT =
            "redis.call('INCRBY', KEYS[1], ARGV[1]); return {KEYS[1], redis.call('GET', KEYS[1])}";
    private static final BufferedReader INPUT = new BufferedReader(new InputStreamReader(System.in));

    private Stage() {}

    static void change(String word) throws Exception {
        System.out.println(word);
        want("the stage's answer", INPUT.readLine(), "done");
    }

    static void want(String what, Object got, Object wanted) {
        if (!Objects.equals(String.valueOf(got), String.valueOf(wanted))) {
            throw new AssertionError(what + ": got " + got + ", wanted " + wanted);
        }
    }

    static <T> T patiently(Callable<T> call) throws Exception {
        long end = System.currentTimeMillis() + 30_000;
        while (true) {
            try {
                return call.call();
            } catch (Exception error) {
                if (System.currentTimeMillis() > end) {
                    throw error;
                }
                System.out.println("  again after " + error);
                Thread.sleep(100);
            }
        }
    }
}
